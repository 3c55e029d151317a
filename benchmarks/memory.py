"""Peak memory of a run with many particles against one with few, each in a process of its own.

    python benchmarks/memory.py [--out docs/benchmarks/memory.md]

What grows with the number of particles are the states and what travels with them, and finished pictures;
noise, network activations and what is decoded on the way are made per micro-batch.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HELD, BESIDE = 6, 50e6
"""What a run may grow by: so many times its states, and bytes besides."""


@dataclass(frozen=True)
class Case:
    """A model, and the numbers of particles to compare.

    Attributes:
        model: an expression.
        settings: of the run.
        state, picture: float32 of one particle.
    """

    name: str
    model: str
    settings: str
    particles: tuple[int, ...]
    state: tuple[int, ...]
    picture: tuple[int, ...]

    def peak(self, particles: int) -> int:
        """Peak resident bytes of a fresh process that makes one run."""
        code = RUN.format(model=self.model, settings=self.settings, particles=particles)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1])

    def report(self) -> tuple[list[str], bool]:
        """Lines of a table, and whether memory grew by no more than it may."""
        peaks = {count: self.peak(count) for count in self.particles}
        few, many = self.particles[0], self.particles[-1]
        more = many - few
        states, pictures = (4 * math.prod(shape) * more for shape in (self.state, self.picture))
        grown, limit = peaks[many] - peaks[few], HELD * states + pictures + BESIDE
        lines = [
            f"{self.name}:",
            "",
            "| particles | peak, MB |",
            "| --- | --- |",
            *(f"| {count} | {peak / 1e6:.0f} |" for count, peak in peaks.items()),
            "",
            f"From {few} to {many} particles states take {states / 1e6:.1f} MB more and pictures "
            f"{pictures / 1e6:.1f} MB; the peak grew by {grown / 1e6:.0f} MB. Allowed: {HELD} times the "
            f"states, the pictures and {BESIDE / 1e6:.0f} MB, {limit / 1e6:.0f} MB.",
        ]
        return lines, grown <= limit


RUN = """
import itscale
import itscale.models.pipelines.tiny
from itscale.pools import Local
result = itscale.sample({model}, reward=lambda images: images.mean((1, 2, 3)), tilt=20.0,
                        method=itscale.methods.SMC(particles={particles}), {settings})
print(result.spent.peak_memory_bytes)
"""
TINY = "itscale.load(itscale.models.pipelines.tiny.stable_diffusion(sample_size=64))"
CASES = (
    Case("Digits, 3 steps", 'itscale.load("digits")', "condition=3, steps=3", (64, 4096), (28, 28), (28, 28)),
    Case(
        "Latents of Stable Diffusion 1.5 (4 x 64 x 64) through a small U-Net and decoder, 3 steps, "
        "micro-batches of 8 rows",
        TINY,
        "condition='a', guidance=2.0, steps=3, process=itscale.SDE(), pool=Local(microbatch=8)",
        (16, 64, 256),
        (4, 64, 64),
        (3, 128, 128),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = ["# Memory", "", f"2 CPU cores, torch {version('torch')}. SMC, a fresh process for every run."]
    all_fine = True
    for case in CASES:
        found, is_fine = case.report()
        lines += ["", *found]
        all_fine &= is_fine
    print("\n".join(lines))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(lines) + "\n")
    sys.exit(not all_fine)


if __name__ == "__main__":
    main()
