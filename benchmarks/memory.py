"""Peak memory of a run with many particles against one with few, each in a process of its own.

    python benchmarks/memory.py [--out docs/benchmarks/memory.md]

What grows with the number of particles are the states and what travels with them; noise, network activations
and decoded images are made per micro-batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FEW, MANY, STEPS = 64, 4096, 3
ALLOWED = "six times the state bytes plus 50 MB"

RUN = """
import itscale
model = itscale.load("digits")
r = itscale.sample(model, condition=3, reward=lambda images: images.mean((1, 2, 3)), tilt=20.0,
                   particles={particles}, steps={steps})
print(r.spent.peak_memory_bytes)
"""


def peak(particles: int, steps: int) -> int:
    """Peak resident bytes of a fresh process that makes one run."""
    code = RUN.format(particles=particles, steps=steps)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    few, many = peak(FEW, STEPS), peak(MANY, STEPS)
    state = 28 * 28 * 4 * MANY
    limit = few + 6 * state + 50_000_000
    text = (
        "# Memory\n\n"
        f"2 CPU cores, torch {version('torch')}. SMC on digits, {STEPS} steps, a fresh process each.\n\n"
        "| particles | peak, MB |\n| --- | --- |\n"
        f"| {FEW} | {few / 1e6:.0f} |\n| {MANY} | {many / 1e6:.0f} |\n\n"
        f"The states of {MANY} particles take {state / 1e6:.1f} MB; the peak grew by "
        f"{(many - few) / 1e6:.0f} MB, "
        f"{(many - few) / state:.1f} times that. Allowed: {ALLOWED}, {(limit - few) / 1e6:.0f} MB.\n"
    )
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)
    sys.exit(many > limit)


if __name__ == "__main__":
    main()
