"""Time resampling against other implementations.

Run from the repository root:

    python benchmarks/resampling.py [--out docs/benchmarks/resampling.md] [--quick]

Needs ``particles`` (numba); a column for ``blackjax`` appears when it is installed. Each figure is the
least processor time of one call over repetitions in which all implementations take turns, on one thread;
compare ratios, not milliseconds. Every implementation draws its own uniforms and returns ancestors in
increasing order; "in place" is ours with survivors kept in their slots, the form that the methods use.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import particles.resampling as reference
import torch

from itscale.particles import (
    WhenESSBelow,
    adaptive,
    ancestors_in_place,
    ancestors_sorted,
    get_scheme,
)

SIZES = {
    "systematic": [(1, 64), (16, 64), (256, 64), (4096, 64), (64, 1024), (1, 65_536), (1, 10**6)],
    "stratified": [(1, 64), (256, 64), (4096, 64), (1, 10**6)],
    "killing": [(1, 64), (256, 64), (4096, 64)],
    "ssp": [(1, 64), (256, 64), (4096, 64)],
}


def ours(name: str, w: torch.Tensor, in_place: bool) -> Callable:
    scheme, (g, n) = get_scheme(name), w.shape

    def call():
        u = torch.rand(g, scheme.uniforms(n, n), dtype=torch.float64)
        counts = scheme(w, n, u)
        return ancestors_in_place(counts) if in_place else ancestors_sorted(counts, n)

    return call


def numba_loop(name: str, w: np.ndarray) -> Callable:
    f = getattr(reference, name)
    return lambda: np.stack([f(row) for row in w])


def numpy_loop(name: str, w: np.ndarray) -> Callable | None:
    if name not in ("systematic", "stratified"):
        return None
    n, rng = w.shape[1], np.random.default_rng(0)

    def one(row):
        u = rng.random() if name == "systematic" else rng.random(n)
        return np.searchsorted(np.cumsum(row), (np.arange(n) + u) / n).clip(max=n - 1)

    return lambda: np.stack([one(row) for row in w])


def blackjax_vmap(name: str, w: np.ndarray) -> Callable | None:
    if name not in ("systematic", "stratified") or not importlib.util.find_spec("blackjax"):
        return None
    import jax

    jax.config.update("jax_enable_x64", True)
    from blackjax.smc import resampling

    f = jax.jit(jax.vmap(lambda key, row: getattr(resampling, name)(key, row, w.shape[1])))
    keys, weights = jax.random.split(jax.random.key(0), len(w)), jax.numpy.asarray(w)
    return lambda: f(keys, weights).block_until_ready()


def milliseconds(calls: dict[str, Callable], seconds: float) -> dict[str, float]:
    """Least time per call, all calls taking turns for about ``seconds`` in all."""
    for call in calls.values():
        call()
    least = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 5 or time.perf_counter() < end:
        for name, call in calls.items():
            inner = 1 if least[name] == float("inf") else max(1, int(0.002 / least[name]))
            start = time.process_time()
            for _ in range(inner):
                call()
            least[name] = min(least[name], max(time.process_time() - start, 1e-7) / inner)
        rounds += 1
    return {name: 1e3 * t for name, t in least.items()}


def scheme_table(name: str, seconds: float) -> str:
    rows = []
    columns = ["ours", "in place", "numba loop", "numpy loop", "blackjax"]
    for g, n in SIZES[name]:
        w = np.random.default_rng(n).normal(size=(g, n))
        w = np.exp(w) / np.exp(w).sum(1, keepdims=True)
        calls = {
            "ours": ours(name, torch.from_numpy(w), in_place=False),
            "in place": ours(name, torch.from_numpy(w), in_place=True),
            "numba loop": numba_loop(name, w),
            "numpy loop": numpy_loop(name, w),
            "blackjax": blackjax_vmap(name, w),
        }
        t = milliseconds({k: c for k, c in calls.items() if c is not None}, seconds)
        cells = [f"{t[c]:.3g}" if c in t else "" for c in columns]
        cells += [f"{t[c] / t['ours']:.2g}" if c in t else "" for c in columns[2:]]
        rows.append(f"| {g} x {n:,} | " + " | ".join(cells) + " |")
    head = "| groups x particles | " + " | ".join(columns) + " | "
    head += " | ".join(f"{c} / ours" for c in columns[2:]) + " |"
    return "\n".join([f"## {name}", "", head, "|" + " --- |" * (2 * len(columns) - 1), *rows])


def step_table(seconds: float) -> str:
    """A whole adaptive step: effective sample size, ancestors, weights, evidence, gather of one number."""
    rows = []
    rule, scheme = WhenESSBelow(0.5), get_scheme("systematic")
    for g, n in [(1, 64), (16, 64), (256, 64), (1024, 64), (1, 65_536)]:
        lw, x = torch.randn(g, n, dtype=torch.float64), torch.randn(g, n, dtype=torch.float64)

        def step(lw=lw, x=x, g=g, n=n):
            u = torch.rand(g, scheme.uniforms(n, n), dtype=torch.float64)
            r = adaptive(rule(lw, 0), lw, u, scheme)
            return x.gather(-1, r.ancestors), r

        t = milliseconds({"step": step}, seconds)["step"]
        rows.append(f"| {g} x {n:,} | {t:.3g} | {t:.2g} % |")
    head = "| groups x particles | ms | of a model call of 100 ms |\n| --- | --- | --- |"
    return "\n".join(["## One adaptive step (systematic)", "", head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--quick", action="store_true", help="a short, noisier run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds = 0.3 if options.quick else 3.0
    libraries = ["torch", "numpy", "numba", "particles"]
    libraries += [p for p in ("jax", "blackjax") if importlib.util.find_spec(p)]
    text = "\n\n".join(
        [
            "# Resampling",
            "Milliseconds per call, and ratios to the first column (above 1: ours is faster). Written by\n"
            "`python benchmarks/resampling.py --out docs/benchmarks/resampling.md`, where all is explained.\n"
            f"2 CPU cores, one thread; {', '.join(f'{p} {version(p)}' for p in libraries)}.",
            *(scheme_table(name, seconds) for name in SIZES),
            step_table(seconds),
        ]
    )
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
