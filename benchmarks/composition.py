"""Time what a composition of two experts adds to twice the unguided run, on the digits model.

Run from the repository root:

    python benchmarks/composition.py [--repetitions 5] [--out docs/benchmarks/composition.md]

Both runs make the same network rows in calls of the same size: one expert with twice the particles, two
experts with half as many each. Processor time of whole runs that take turns, one thread; the figure is the
median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import itscale

PARTICLES, STEPS = 64, 20


def seconds(model: Any, method: str, particles: int) -> float:
    """Processor time of one run."""
    started = time.process_time()
    itscale.sample(
        model,
        method=method,
        n=particles,
        steps=STEPS,
        process=itscale.SDE(),
        pool=itscale.pools.Local(microbatch=2 * PARTICLES),
    )
    return time.process_time() - started


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    digits = itscale.load("digits")
    law = digits.given(3) ** 0.5 * digits.given(5) ** 0.5
    pairs = [
        (seconds(law, "fkc", PARTICLES), seconds(digits.given(3), "unguided", 2 * PARTICLES))
        for _ in range(args.repetitions + 1)
    ][1:]
    found = sorted(run / base for run, base in pairs)
    middle, low, high = statistics.median(found), found[0], found[-1]
    lines = [
        "# Overhead of composition",
        "",
        f"Two experts of the digits model, weighted, {PARTICLES} particles, T = {STEPS}, over the unguided "
        "run of one expert with as many network rows in calls of the same size; one thread, "
        f"torch {version('torch')}.",
        "",
        f"Ratio {middle:.3f}, {low:.3f} to {high:.3f} over {args.repetitions} pairs.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
