"""Schedulers of diffusers, each beside our solver that makes the same update, and how to drive them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from stopwatch import Clock, Counter
from torch import Tensor, nn

import itscale
from itscale import grids
from itscale.interpolants import EDM, Interpolant, Linear, Table
from itscale.process import ODE, SDE, ContinuousProcess
from itscale.solvers import (
    DDIM,
    DEIS,
    LMS,
    SDE2M,
    Ancestral,
    DPMSolver2,
    DPMSolver2M,
    EDMHeun,
    Legacy3M,
    Solver,
    UniPC,
)

BATCH, STEPS = 64, 12
SHAPE = (BATCH, 1, 28, 28)
KAPPA = EDM(sigma_max=20.0, sigma_min=0.001)


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


def setting(rival: Rival, network: nn.Module) -> tuple[ContinuousProcess, Tensor, Tensor]:
    """Our process and grid, and the noise-to-signal ratios of its levels but the last."""
    view = SDE() if rival.solver.is_stochastic else ODE()
    process = ContinuousProcess.of(AsNoise(network, rival.path), view)
    if isinstance(rival.path, Table):
        times = grids.spaced(rival.path, STEPS, spacing="leading")
    elif isinstance(rival.path, Linear):
        process = ContinuousProcess.of(replace(itscale.load("digits"), network=network), view)
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
) -> Iterator[Tensor]:
    """Drive a scheduler over the same levels, up to the last one that is looked at, step by step."""
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
        yield x


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
