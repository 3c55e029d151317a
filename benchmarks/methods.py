"""Time what every method adds to its own network calls, on the digits model.

Run from the repository root:

    python benchmarks/methods.py [--repetitions 5] [--rows 32 8] [--out docs/benchmarks/methods.md]

A run of every method with a cheap reward, groups chosen so that a network call takes ``rows`` rows. Calls of
the network, forwards and backwards, are timed inside the run; the figure is the processor time of the whole
run over theirs, the median over repetitions. One thread, so that processor time is the time of the work,
whatever else the machine does. Two floors come first: SMC's arithmetic, with torch's noise and with ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from by_hand import smc_by_hand

import itscale
from itscale import methods
from itscale.process import ODE, SDE

STEPS = 20
BUDGET = 320  # evaluations per group where a method spends what there is
FLOORS = {"smc by hand, torch's noise": False, "smc by hand": True}
"""No methods, but their arithmetic; whether noise is addressed."""


@itscale.reward(name="mean", modality="image", differentiable=True)
def mean(images):
    return images.mean((1, 2, 3))


class Clock:
    """Processor seconds inside the network, and the rows of its calls."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls: list[int] = []
        self.depth = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        started = time.process_time()
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if not self.depth:
                self.seconds += time.process_time() - started


@contextmanager
def clocked(model: Any) -> Iterator[Clock]:
    """Time the network of a model, and every backward pass."""
    clock, kind = Clock(), type(model)
    predict, backward = kind.predict, torch.autograd.grad

    def forward(self, x, t, condition):
        clock.calls.append(len(x))
        with clock.running():
            return predict(self, x, t, condition)

    def back(*args, **options):
        with clock.running():
            return backward(*args, **options)

    try:
        kind.predict, torch.autograd.grad = forward, back
        yield clock
    finally:
        kind.predict, torch.autograd.grad = predict, backward


def settings_of(name: str, rows: int, model: Any) -> dict[str, Any]:
    """Settings of a run whose usual network call has ``rows`` rows."""
    method: Any = methods.get_method(name)
    process: Any = SDE()
    particles, each = 8, 8
    if hasattr(method, "children"):
        particles, each = 2, 2 * method.children
    if name == "zero-order":
        process, particles, each = ODE(), 1, method.neighbours
    if name == "reno":
        process = ODE()
    if hasattr(method, "iterations"):
        method = replace(method, iterations=3)
    if name in ("rbf", "verifier-threshold"):
        particles, each = 2, 2
    if getattr(method, "profile", 0) is None:  # else a pilot runs before
        method = replace(method, profile=itscale.calibrate(model, mean, condition=3, groups=1, steps=STEPS))
    budget = itscale.Budget(nfe=BUDGET) if name in ("rbf", "verifier-threshold", "zero-order") else None
    method = replace(method, particles=particles)
    groups = max(1, rows // each)
    return {"method": method, "process": process, "groups": groups, "budget": budget}


def run_of(model: Any, name: str, rows: int) -> Callable[[], Any]:
    """A run of a method, or of a floor."""
    if name in FLOORS:
        return lambda: smc_by_hand(model, max(1, rows // 8), 8, STEPS, 20.0, FLOORS[name])
    settings = settings_of(name, rows, model)
    pool = itscale.pools.Local(microbatch=rows)
    return lambda: itscale.sample(
        model, condition=3, reward=mean, tilt=20.0, steps=STEPS, pool=pool, **settings
    )


def measure(model: Any, name: str, rows: int, repetitions: int) -> tuple[float, float, float, float]:
    """Return the ratio, its range over repetitions, and the median rows of a call."""
    found, size = [], 0.0
    run = run_of(model, name, rows)
    for repetition in range(repetitions + 1):
        with clocked(model) as clock:
            started = time.process_time()
            run()
            total = time.process_time() - started
        if repetition:  # the first warms up
            found.append(total / clock.seconds)
            size = statistics.median(clock.calls)
    return statistics.median(found), min(found), max(found), size


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 8])
    parser.add_argument("--methods", nargs="+", choices=methods.METHODS, default=list(methods.METHODS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = itscale.load("digits")
    lines = [
        "# Overhead of methods",
        "",
        f"Processor time of a run over that of its network calls; digits model, T = {STEPS}, cheap reward, "
        f"one thread, torch {version('torch')}. In brackets the range over {args.repetitions} runs, and the "
        "median rows of a call.",
        "",
        "| method | " + " | ".join(f"{rows} rows a call" for rows in args.rows) + " |",
        "| --- |" + " --- |" * len(args.rows),
    ]
    print("\n".join(lines))
    for name in (*FLOORS, *args.methods):
        cells = []
        for rows in args.rows:
            middle, low, high, size = measure(model, name, rows, args.repetitions)
            cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f}; {size:.0f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
