"""Time what solvers add to the network calls, and the same updates by the schedulers of diffusers.

Run from the repository root:

    python benchmarks/solvers.py [--repetitions 5] [--out docs/benchmarks/solvers.md]

A step's time is that of everything but the network: processor time of the thread, median over the steps in
the middle of runs. Ours and theirs take turns step by step, on the same noise levels, network and normals,
and must end at the same states; what is compared is the median of the ratios of such pairs, which other work
on the machine disturbs less than times. The digits network is called between steps, so that caches are as in
a real run; a light one in its place leaves the states in the caches and shows what is done besides reading
them. A noisy step is timed with normals drawn beforehand on both sides; drawing them is a line of its own.
Operations are counted by a dispatch mode: a pass makes or changes a tensor of the size of the states, an
operation on numbers a smaller one, and a read brings a tensor's value to Python.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rivals import BATCH, RIVALS, SHAPE, STEPS, Rival, setting, theirs
from stopwatch import Clock, Counter
from torch import Tensor, nn

import itscale
from itscale import grids
from itscale.noise import Address, Noise, Purpose
from itscale.process import ODE, SDE, ContinuousProcess, Evaluation
from itscale.solvers import GMODE, GMSDE, SOLVERS, Restart, Solver, remembered, shares_of

SKIPPED = 3  # the first steps of a run are of lower order
LIGHT = 20  # times as many repetitions with the light network


class Light(nn.Module):
    """A network that costs a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(-0.3), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return x * self.factor


def ours(
    process: ContinuousProcess,
    solver: Solver,
    times: Tensor,
    x: Tensor,
    z: Tensor,
    clock: Clock,
    until: int,
    counted: Counter | None = None,
) -> Iterator[Tensor]:
    """Drive a kernel to level ``until``, step by step; ``counted`` counts the last step."""
    kernel = solver.build(process, times)
    condition = torch.full((len(x),), 3) if process.model.predicts == "velocity" else None
    history: tuple[Tensor, ...] = ()

    def look(y: Tensor, where: int | float, rows: Tensor | None = None) -> Evaluation:
        t = times[where] if isinstance(where, int) else torch.tensor(where, dtype=torch.float64)
        if counted is not None:
            counted.is_off = True
        labels = condition if condition is None or rows is None else condition[rows]
        at = clock.look(lambda: process.evaluate(y, t, labels))
        if counted is not None:
            counted.is_off = False
        return at

    for level in range(until):
        at = look(x, level)
        noise = normals(z, kernel, level) if kernel.is_noisy(level) else None

        with clock.step(), counted if counted is not None and level == until - 1 else nullcontext():
            move = kernel(at, history, level, look, noise)
            x, history = move.x, remembered(kernel, at, history, move)
        yield x


def normals(z: Tensor, kernel: Any, level: int) -> Tensor:
    shares = shares_of(kernel, level)
    return z if shares is None else torch.stack([z.roll(j, 0) for j in range(len(shares))], 1)


def last(run: Iterator[Tensor]) -> Tensor:
    *_, end = run
    return end


def micro(seconds: list[float]) -> float:
    """Median in microseconds."""
    return 1e6 * statistics.median(seconds)


def solver_lines(repetitions: int) -> Iterator[str]:
    """Every solver with its default options, on the digits flow's own path."""
    model = itscale.load("digits")
    x, z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    for name, entry in SOLVERS.items():
        if entry in (GMODE, GMSDE):  # they need a mixture, and the digits are none
            continue
        solver = entry()
        process = ContinuousProcess.of(model, SDE() if solver.is_stochastic else ODE())
        times = grids.uniform(process.interpolant, STEPS, process.t_start)
        clocks = [Clock() for _ in range(repetitions)]
        for clock in clocks:
            last(ours(process, solver, times, x, z, clock, STEPS - 1))
        counter = Counter(math.prod(SHAPE))
        last(ours(process, solver, times, x, z, Clock(), STEPS - 2, counter))
        if isinstance(solver, Restart):  # most of its steps are those of its main solver
            name = "restart, between restarts"
        step = micro([s for c in clocks for s in c.steps[SKIPPED:]])
        share = step / solver.evaluations / micro([s for c in clocks for s in c.looks])
        passes, small, reads = counter.counts
        cells = (name, solver.evaluations, f"{step:.0f}", f"{100 * share:.2f} %", passes, small, reads)
        yield "| " + " | ".join(map(str, cells)) + " |"


class Pair:
    """A rival and our solver on one problem."""

    def __init__(self, rival: Rival, network: nn.Module) -> None:
        self.rival, self.network = rival, network
        self.process, self.times, self.kappa = setting(rival, network)
        unit, self.z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
        self.start = unit * float(self.process.interpolant.sigma(self.times[0]))
        self.scale = torch.sqrt(1 + self.kappa**2).tolist() if rival.is_unit else [1.0] * len(self.kappa)

    def mine(self, clock: Clock, counted: Counter | None = None) -> Iterator[Tensor]:
        moves = len(self.kappa) - 1
        return ours(self.process, self.rival.solver, self.times, self.start, self.z, clock, moves, counted)

    def other(self, clock: Clock, counted: Counter | None = None) -> Iterator[Tensor]:
        start = self.start / self.scale[0]
        return theirs(self.rival, self.kappa, self.times, self.network, start, self.z, clock, counted)

    def gap(self) -> float:
        """How far apart they end."""
        first, second = last(self.mine(Clock())), last(self.other(Clock())) * self.scale[-1]
        return float((first - second).abs().max() / first.abs().max())

    def seconds(self, repetitions: int) -> list[tuple[float, float]]:
        """Of one step of each, taken by turns; who begins changes with the repetition."""
        found = []
        for turn in range(repetitions):
            clocks = Clock(), Clock()
            runs = self.mine(clocks[0]), self.other(clocks[1])
            for _ in zip(*(runs if turn % 2 else runs[::-1]), strict=True):
                pass
            found += zip(*(clock.steps[SKIPPED:] for clock in clocks), strict=True)
        return found

    def counts(self) -> str:
        counters = [Counter(math.prod(SHAPE)) for _ in range(2)]
        last(self.mine(Clock(), counters[0]))
        last(self.other(Clock(), counters[1]))
        return " | ".join(f"{p}, {q}" for p, q in zip(*(c.counts for c in counters), strict=True))


def rival_lines(repetitions: int) -> Iterator[str]:
    heavy, light = itscale.load("digits").network, Light()
    for name, rival in RIVALS.items():
        pair = Pair(rival, heavy)
        gap = pair.gap()
        assert gap < 1e-3, f"{name}: ours and theirs end {gap:.2g} apart"
        cells = [name, rival.scheduler]
        for network, times in ((heavy, 1), (light, LIGHT)):
            seconds = Pair(rival, network).seconds(repetitions * times)
            a, b = (micro(list(side)) for side in zip(*seconds, strict=True))
            cells += [f"{a:.0f}, {b:.0f}", f"{statistics.median(b / a for a, b in seconds):.2f}"]
        yield "| " + " | ".join([*cells, pair.counts()]) + " |"


def normals_line() -> str:
    """What a step's normals cost: addressed ones, and those of torch's generator."""
    zero = torch.zeros(BATCH, dtype=torch.int64)
    address, noise = Address(zero, zero, torch.arange(BATCH), zero), Noise(0)
    found = []
    for call in (
        lambda: noise.normal(Purpose.MOVE, address, SHAPE[1:], torch.float32),
        lambda: torch.randn(SHAPE),
    ):
        seconds = []
        for _ in range(50):
            started = time.thread_time()
            call()
            seconds.append(time.thread_time() - started)
        found.append(1e6 * statistics.median(seconds))
    return (
        f"Drawing the normals of a noisy step costs {found[0]:.0f} µs by their address (noise then does "
        f"not depend on\nthe batch), {found[1]:.0f} µs by `torch.randn`; it is not in the tables."
    )


HEAD = """# Solvers

Written by `python benchmarks/solvers.py --out docs/benchmarks/solvers.md`, where all is explained.
2 CPU cores, one thread; torch {torch}, diffusers {diffusers}. Batches of {batch} digits. Microseconds
of processor time a step, without the network; compare ratios.

## Against the schedulers of diffusers

The same update of the same states by the same network outputs; both must end at the same states. Where two
numbers stand, the first is ours. Ratios are medians of theirs over ours, step by step by turns: above 1 ours
is the quicker.

| update | scheduler | µs | ratio | µs, light network | ratio | passes over states | on numbers | reads |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
MIDDLE = """
## All solvers

On the digits flow's own path, 12 equal steps. The share is of the network calls of the step. Reads are of
float64 numbers on the host: none waits for an accelerator.

| solver | NFE per step | µs per step | share | passes over states | on numbers | reads |
| --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    lines = [HEAD.format(torch=version("torch"), diffusers=version("diffusers"), batch=BATCH)]
    with torch.no_grad():
        for line in rival_lines(args.repetitions):
            lines.append(line)
            print(line, flush=True)
        lines.append(MIDDLE)
        for line in solver_lines(args.repetitions):
            lines.append(line)
            print(line, flush=True)
        lines += ["", normals_line()]
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
