"""Time an SMC run on the digits model against the bare network calls that it makes.

Run from the repository root:

    python benchmarks/engine.py [--repetitions 9] [--out docs/benchmarks/engine.md]

The baseline is a loop over the same micro-batches that does nothing but call the network, on states of the
same shape. Baseline and run take turns; the figure is the median of the ratios of neighbours, so that a
machine whose speed drifts does not bias it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

import itscale
from itscale.engine.worker import Worker

PARTICLES, STEPS = 64, 50
VERBS = ("start", "propose", "look", "score", "finish")


def bare_calls(model, particles: int, steps: int, microbatch: int) -> float:
    """Seconds of ``steps`` passes over ``particles`` rows, network alone."""
    x = torch.randn(particles, *model.event_shape)
    condition = model.encode([3]).expand(particles)
    started = time.perf_counter()
    with torch.no_grad():
        for step in range(steps):
            t = torch.tensor(step / steps, dtype=torch.float64)
            for first in range(0, particles, microbatch):
                rows = slice(first, first + microbatch)
                model.predict(x[rows], t, condition[rows])
    return time.perf_counter() - started


def steered(model, particles: int, steps: int, microbatch: int, method=None) -> float:
    """Seconds of a whole ``sample`` call with a cheap reward."""
    started = time.perf_counter()
    itscale.sample(
        model,
        condition=3,
        reward=lambda images: images.mean((1, 2, 3)),
        tilt=20.0,
        method=method or itscale.methods.SMC(),
        particles=particles,
        steps=steps,
        pool=itscale.pools.Local(microbatch=microbatch),
    )
    return time.perf_counter() - started


def ratios(
    run: Callable[[], float], base: Callable[[], float], repetitions: int
) -> list[tuple[float, float]]:
    """Take turns; return (run, base) seconds."""
    run(), base()
    return [(run(), base()) for _ in range(repetitions)]


def split(model, microbatch: int) -> dict[str, float]:
    """Seconds of one run by verb of the worker; the network is taken out of ``look``."""
    spent = dict.fromkeys((*VERBS, "network"), 0.0)
    originals = {name: getattr(Worker, name) for name in VERBS}
    predict = type(model).predict

    def timed(name, function):
        def call(*args, **kwargs):
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - started

        return call

    try:
        for name, function in originals.items():
            setattr(Worker, name, timed(name, function))
        type(model).predict = timed("network", predict)
        total = steered(model, PARTICLES, STEPS, microbatch)
    finally:
        for name, function in originals.items():
            setattr(Worker, name, function)
        type(model).predict = predict
    spent["driver"] = total - sum(spent[name] for name in VERBS)
    spent["look"] -= spent["network"]
    return {"total": total, **spent}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = itscale.load("digits")
    lines = [
        "# Engine overhead",
        "",
        f"2 CPU cores, {args.threads} threads, torch {version('torch')}. "
        f"Digits model, T = {STEPS}, cheap "
        "reward, micro-batch 64; wall time of a run over its bare network calls, median of "
        "neighbouring pairs.",
        "",
        "| run | seconds | bare calls | ratio | range |",
        "| --- | --- | --- | --- | --- |",
    ]
    cases = [
        ("smc, K = 64", None, 64, 64),
        ("smc, K = 16", None, 16, 64),
        ("smc, K = 256", None, 256, 64),
        ("best-of-n, N = 64", itscale.methods.BestOfN(), 64, 64),
    ]
    for name, method, particles, microbatch in cases:
        pairs = ratios(
            lambda p=particles, m=method, b=microbatch: steered(model, p, STEPS, b, m),
            lambda p=particles, b=microbatch: bare_calls(model, p, STEPS, b),
            args.repetitions if particles <= 64 else max(3, args.repetitions // 3),
        )
        found = sorted(a / b for a, b in pairs)
        run, base = (statistics.median(column) for column in zip(*pairs, strict=True))
        row = f"| {name} | {run:.2f} | {base:.2f} | {statistics.median(found):.3f} |"
        lines.append(f"{row} {found[0]:.3f} to {found[-1]:.3f} |")
        print(lines[-1], flush=True)
    parts = split(model, 64)
    total = parts.pop("total")
    lines += ["", "Where the time of smc, K = 64 goes:", "", "| part | share |", "| --- | --- |"]
    names = {"propose": "noise and kernel", "look": "look, less the network", "score": "decode and reward"}
    lines += [f"| {names.get(k, k)} | {100 * v / total:.1f} % |" for k, v in parts.items()]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)


if __name__ == "__main__":
    main()
