"""Time what a composition of two experts adds to twice the unguided run, on the digits model.

Run from the repository root:

    python benchmarks/composition.py [--repetitions 5] [--out docs/benchmarks/composition.md]

Both runs make the same network rows in calls of the same size: one expert with twice the particles, two
experts with half as many each. Processor time of whole runs that take turns, one thread; the figure is the
median of the ratios of neighbours. What is spent outside the network is timed apart: it says what the
composition adds on a busy machine too, where the network's own time wavers.
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
from itscale.allocator import keep_freed_memory

PARTICLES, STEPS = 64, 20


class Timed:
    """A network's forward pass, with the processor time that it took."""

    def __init__(self, forward: Any) -> None:
        self.forward = forward
        self.seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        found = self.forward(*args, **kwargs)
        self.seconds += time.process_time() - started
        return found


def seconds(model: Any, method: str, particles: int, network: Timed) -> tuple[float, float]:
    """Processor time of one run, and the share of it outside the network."""
    started, network.seconds = time.process_time(), 0.0
    itscale.sample(
        model,
        method=method,
        n=particles,
        steps=STEPS,
        process=itscale.SDE(),
        pool=itscale.pools.Local(microbatch=2 * PARTICLES),
    )
    total = time.process_time() - started
    return total, 1 - network.seconds / total


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command line does; page faults waver by more than the figure
    digits: Any = itscale.load("digits")
    network = Timed(digits.network.forward)
    digits.network.forward = network
    law = digits.given(3) ** 0.5 * digits.given(5) ** 0.5
    pairs = [
        (
            seconds(law, "fkc", PARTICLES, network),
            seconds(digits.given(3), "unguided", 2 * PARTICLES, network),
        )
        for _ in range(args.repetitions + 1)
    ][1:]
    found = sorted(run[0] / base[0] for run, base in pairs)
    outside = [statistics.median(pair[i][1] for pair in pairs) for i in (0, 1)]
    middle, low, high = statistics.median(found), found[0], found[-1]
    lines = [
        "# Overhead of composition",
        "",
        f"Two experts of the digits model, weighted, {PARTICLES} particles, T = {STEPS}, over the unguided "
        "run of one expert with as many network rows in calls of the same size; one thread, "
        f"torch {version('torch')}.",
        "",
        f"Ratio {middle:.3f}, {low:.3f} to {high:.3f} over {args.repetitions} pairs.",
        "",
        f"Outside the network: {outside[0]:.1%} of the time with two experts, {outside[1]:.1%} with one.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
