"""Time what solvers add to the network calls, and the same updates by the schedulers of diffusers.

Run from the repository root:

    python benchmarks/solvers.py [--repetitions 5] [--out docs/benchmarks/solvers.md]

A step's time is that of everything but the network: processor time of the thread, median over the steps in
the middle of a run and over repetitions, with the digits network called between steps so that caches are as
in a real run. Ours and theirs take turns on the same noise levels, network and normals, and must end at the
same states. A noisy step is timed with normals drawn beforehand on both sides; drawing them is a line of its
own. Operations are counted by a dispatch mode: a pass makes or changes a tensor of the size of the states,
an operation on numbers a smaller one, and a read brings a tensor's value to Python.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import itscale
from itscale import grids
from itscale.interpolants import EDM, Interpolant, Linear, Table
from itscale.noise import Address, Noise, Purpose
from itscale.process import ODE, SDE, ContinuousProcess, Evaluation
from itscale.solvers import (
    DDIM,
    DEIS,
    GMODE,
    GMSDE,
    LMS,
    SDE2M,
    SOLVERS,
    Ancestral,
    DPMSolver2,
    DPMSolver2M,
    EDMHeun,
    Legacy3M,
    Restart,
    Solver,
    UniPC,
    remembered,
    shares_of,
)

BATCH, STEPS, SKIPPED = 64, 12, 3  # the first steps of a run are of lower order
SHAPE = (BATCH, 1, 28, 28)
KAPPA = EDM(sigma_max=20.0, sigma_min=0.001)


@dataclass
class Clock:
    """Processor seconds of steps, without those of the looks inside them."""

    steps: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    _inside: float = 0.0

    def look(self, call: Callable[[], Any]) -> Any:
        started = time.thread_time()
        try:
            return call()
        finally:
            self.looks.append(time.thread_time() - started)
            self._inside += self.looks[-1]

    @contextmanager
    def step(self) -> Iterator[None]:
        self._inside = 0.0
        started = time.thread_time()
        yield
        self.steps.append(time.thread_time() - started - self._inside)


class Counter(TorchDispatchMode):
    """Count passes over states, operations on numbers, and reads of numbers; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = self.small = self.reads = 0
        self.is_off = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.is_off or func.is_view:
            return out
        if func.overloadpacket is torch.ops.aten._local_scalar_dense:
            self.reads += 1
        elif isinstance(out, Tensor) and out.numel() >= math.prod(SHAPE):
            self.passes += 1
        else:
            self.small += 1
        return out

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.passes, self.small, self.reads


@dataclass(frozen=True)
class AsNoise:
    """The digits network on another path: its output is taken for the noise, which is good for timing."""

    network: Any
    interpolant: Interpolant
    event_shape: tuple[int, ...] = SHAPE[1:]
    predicts: str = "noise"

    def predict(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        kappa = float(self.interpolant.kappa(t))
        scale = math.sqrt(1 + kappa**2) if self.interpolant == KAPPA else 1.0
        return self.at(x / scale, kappa)

    def at(self, x: Tensor, kappa: float) -> Tensor:
        """The output at a state of unit scale."""
        time_label = torch.tensor(1 / (1 + kappa))
        return self.network(x, time_label, torch.full((len(x),), 3))


def ours(
    process: ContinuousProcess,
    solver: Solver,
    times: Tensor,
    x: Tensor,
    z: Tensor,
    clock: Clock,
    until: int,
    counted: Counter | None = None,
) -> Tensor:
    """Drive a kernel to level ``until``; ``counted`` counts the last step."""
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
    return x


def normals(z: Tensor, kernel: Any, level: int) -> Tensor:
    shares = shares_of(kernel, level)
    return z if shares is None else torch.stack([z.roll(j, 0) for j in range(len(shares))], 1)


@dataclass(frozen=True)
class Rival:
    """An update in both libraries.

    Attributes:
        path: of ours; theirs works on ``x / sqrt(1 + kappa^2)`` where ``is_unit``.
        options: of the scheduler; ``halves`` calls of its step make one step.
    """

    solver: Solver
    scheduler: str
    path: Interpolant = KAPPA
    options: dict[str, Any] = field(default_factory=dict)
    is_unit: bool = False
    halves: int = 1


MULTISTEP = {"lower_order_final": False, "final_sigmas_type": "sigma_min"}
DEIS_OPTIONS = {"lower_order_final": False}
RIVALS = {
    "Euler, flow": Rival(DDIM(), "FlowMatchEulerDiscreteScheduler", Linear()),
    "DDIM": Rival(DDIM(), "DDIMScheduler", Table.linear(), {"clip_sample": False}),
    "DDIM with noise": Rival(Ancestral(), "DDIMScheduler", Table.linear(), {"clip_sample": False}),
    "Euler": Rival(DDIM(), "EulerDiscreteScheduler"),
    "Heun": Rival(EDMHeun(), "HeunDiscreteScheduler", halves=2),
    "DPM-2": Rival(DPMSolver2(), "KDPM2DiscreteScheduler", halves=2),
    "LMS, 4": Rival(LMS(4), "LMSDiscreteScheduler"),
    "DPM++2M": Rival(DPMSolver2M(), "DPMSolverMultistepScheduler", options=MULTISTEP, is_unit=True),
    "DPM++3M, legacy": Rival(
        Legacy3M(), "DPMSolverMultistepScheduler", options={**MULTISTEP, "solver_order": 3}, is_unit=True
    ),
    "UniPC, 2": Rival(UniPC(2), "UniPCMultistepScheduler", options=MULTISTEP, is_unit=True),
    "UniPC, 3": Rival(
        UniPC(3), "UniPCMultistepScheduler", options={**MULTISTEP, "solver_order": 3}, is_unit=True
    ),
    "DEIS, 3": Rival(
        DEIS(3), "DEISMultistepScheduler", options={**DEIS_OPTIONS, "solver_order": 3}, is_unit=True
    ),
    "Euler ancestral": Rival(Ancestral(), "EulerAncestralDiscreteScheduler"),
    "SDE-DPM++2M": Rival(
        SDE2M(),
        "DPMSolverMultistepScheduler",
        options={**MULTISTEP, "algorithm_type": "sde-dpmsolver++"},
        is_unit=True,
    ),
}


def setting(rival: Rival, network: Any) -> tuple[ContinuousProcess, Tensor, Tensor]:
    """Our process and grid, and the noise-to-signal ratios of its levels but the last."""
    view = SDE() if rival.solver.is_stochastic else ODE()
    process = ContinuousProcess.of(AsNoise(network, rival.path), view)
    if isinstance(rival.path, Table):
        times = grids.spaced(rival.path, STEPS, spacing="leading")
    elif isinstance(rival.path, Linear):
        process = ContinuousProcess.of(itscale.load("digits"), view)
        times = grids.uniform(rival.path, STEPS)
    else:
        times = grids.karras(KAPPA, STEPS, kappa_max=20.0, kappa_min=0.05)
    return process, times, process.interpolant.kappa(times[:-1])


def theirs(
    rival: Rival,
    kappa: Tensor,
    times: Tensor,
    network: Any,
    x: Tensor,
    z: Tensor,
    clock: Clock,
    counted: Counter | None = None,
) -> Tensor:
    """Drive a scheduler over the same levels, up to the last one that is looked at."""
    import diffusers

    made = getattr(diffusers, rival.scheduler)(**rival.options)
    made.set_timesteps(STEPS)
    model, moves = AsNoise(network, rival.path), len(kappa) - 1
    levels = [float(k) for k in kappa]
    labels = made.timesteps
    if isinstance(rival.path, Linear):
        made.sigmas = (1 - times).float()
        labels = made.timesteps = (1000 * made.sigmas[:-1]).float()
        made.set_begin_index(0)
    elif rival.path == KAPPA:
        made.sigmas = kappa.float()
        labels = made.timesteps = torch.arange(rival.halves * moves, 0, -1, dtype=torch.float64)
        if rival.halves == 2:
            made.sigmas = torch.cat([kappa[:1], kappa[1:].repeat_interleave(2), kappa[-1:]]).float()
            middle = torch.sqrt(kappa[1:] * kappa[:-1])
            made.sigmas_interpol = torch.cat([kappa[:1], middle.repeat_interleave(2), middle[-1:]]).float()
            between = middle if "KDPM2" in rival.scheduler else kappa[1:]
            levels = torch.stack([kappa[:-1], between], dim=1).flatten().tolist()
        made.is_scale_input_called = True
        made.set_begin_index(0)
    with_noise: dict[str, Any] = {}
    if rival.solver.is_stochastic and "Ancestral" not in rival.scheduler:
        with_noise["variance_noise"] = z
    if rival.solver.is_stochastic and "DDIM" in rival.scheduler:
        with_noise["eta"] = 1.0
    for i in range(moves):
        with prepared_normals(z), clock.step():
            for half in range(rival.halves):
                j = rival.halves * i + half
                x = _their_half(
                    rival, made, model, labels[j], levels[j], x, clock, with_noise, counted, i == moves - 1
                )
    return x


def _their_half(
    rival: Rival,
    made: Any,
    model: AsNoise,
    label: Tensor,
    kappa: float,
    x: Tensor,
    clock: Clock,
    with_noise: dict[str, Any],
    counted: Counter | None,
    is_last: bool,
) -> Tensor:
    def call() -> Tensor:
        if isinstance(rival.path, Linear):  # they count from data to noise
            return -model.at(x, kappa)
        is_scaled = rival.path == KAPPA and not rival.is_unit
        return model.at(x / math.sqrt(1 + kappa**2) if is_scaled else x, kappa)

    output = clock.look(call)
    if counted is None or not is_last:
        return made.step(output, label, x, return_dict=False, **with_noise)[0]
    with counted:
        return made.step(output, label, x, return_dict=False, **with_noise)[0]


@contextmanager
def prepared_normals(z: Tensor) -> Iterator[None]:
    """Let the schedulers that draw by themselves take normals drawn before."""
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as module

    original = module.randn_tensor
    module.randn_tensor = lambda *args, **kwargs: z
    try:
        yield
    finally:
        module.randn_tensor = original


def middle_median(clocks: list[Clock]) -> float:
    """Microseconds."""
    return 1e6 * statistics.median(s for c in clocks for s in c.steps[SKIPPED:])


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
            ours(process, solver, times, x, z, clock, STEPS - 1)
        counter = Counter()
        ours(process, solver, times, x, z, Clock(), STEPS - 2, counter)
        if isinstance(solver, Restart):  # most of its steps are those of its main solver
            name = "restart, between restarts"
        step, network = middle_median(clocks), statistics.median(s for c in clocks for s in c.looks)
        share = step / 1e6 / (solver.evaluations * network)
        passes, small, reads = counter.counts
        cells = (name, solver.evaluations, f"{step:.0f}", f"{100 * share:.2f} %", passes, small, reads)
        yield "| " + " | ".join(map(str, cells)) + " |"


def rival_lines(repetitions: int) -> Iterator[str]:
    network = itscale.load("digits").network
    unit, z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    for name, rival in RIVALS.items():
        process, times, kappa = setting(rival, network)
        start = unit * float(process.interpolant.sigma(times[0]))
        scale = torch.sqrt(1 + kappa**2).tolist() if rival.is_unit else [1.0] * len(kappa)
        moves = len(kappa) - 1

        mine = functools.partial(ours, process, rival.solver, times, start, z, until=moves)
        other = functools.partial(theirs, rival, kappa, times, network, start / scale[0], z)
        first, second = mine(clock=Clock()), other(clock=Clock()) * scale[-1]
        gap = float((first - second).abs().max() / first.abs().max())
        assert gap < 1e-3, f"{name}: ours and theirs end {gap:.2g} apart"
        clocks = [(Clock(), Clock()) for _ in range(repetitions)]
        for a, b in clocks:
            mine(clock=a), other(clock=b)
        a, b = (middle_median(list(c)) for c in zip(*clocks, strict=True))
        counters = Counter(), Counter()
        mine(clock=Clock(), counted=counters[0]), other(clock=Clock(), counted=counters[1])
        counts = " | ".join(f"{p}, {q}" for p, q in zip(*(c.counts for c in counters), strict=True))
        yield f"| {name} | {rival.scheduler} | {a:.0f} | {b:.0f} | {b / a:.1f} | {counts} |"


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
numbers stand, the first is ours.

| update | scheduler | ours, µs | theirs, µs | theirs / ours | passes over states | on numbers | reads |
| --- | --- | --- | --- | --- | --- | --- | --- |"""
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
