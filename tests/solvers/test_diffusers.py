"""Our solvers and grids against the schedulers of diffusers, driven in float64 on our grids."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from itscale import grids
from itscale.interpolants import Linear, Table
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import (
    DDIM,
    DEIS,
    IPNDM,
    LMS,
    DPMSolver2,
    DPMSolver2M,
    DPMSolver2S,
    EDMHeun,
    Legacy3M,
    UniP,
    UniPC,
)
from tests.contracts.solvers import EDM_PATH, KAPPA_MAX, KAPPA_MIN, reference_ends
from tests.oracles import gm2
from tests.solvers.drive import drive, kappa_grid

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
MOVES = 32
MODEL = gm2(EDM_PATH)
PLAIN = {"prediction_type": "sample", "lower_order_final": False}
WHOLE = {"prediction_type": "sample", "lower_order_final": False, "final_sigmas_type": "sigma_min"}
MULTISTEP = {
    "euler": (DDIM(), "DPMSolverMultistepScheduler", {"solver_order": 1}),
    "2m": (DPMSolver2M(), "DPMSolverMultistepScheduler", {"solver_order": 2}),
    "3m": (Legacy3M(), "DPMSolverMultistepScheduler", {"solver_order": 3}),
    "unip-2": (UniP(2), "UniPCMultistepScheduler", {"disable_corrector": list(range(MOVES))}),
    "unipc-1": (UniPC(1), "UniPCMultistepScheduler", {"solver_order": 1}),
    "unipc-2 bh1": (UniPC(2, "bh1"), "UniPCMultistepScheduler", {"solver_type": "bh1"}),
    "unipc-2 bh2": (UniPC(2), "UniPCMultistepScheduler", {"solver_order": 2}),
    "unipc-3": (UniPC(3), "UniPCMultistepScheduler", {"solver_order": 3}),
    "deis-2": (DEIS(2), "DEISMultistepScheduler", {"solver_order": 2}),
    "deis-3": (DEIS(3), "DEISMultistepScheduler", {"solver_order": 3}),
}


def scheduler(name: str, kappa: Tensor, **options):
    """A scheduler with the noise levels of our grid put in place of its own."""
    diffusers = pytest.importorskip("diffusers")
    made = getattr(diffusers, name)(**options)
    made.set_timesteps(len(kappa) - 1)
    made.sigmas = kappa
    made.timesteps = torch.arange(len(kappa) - 1, 0, -1, dtype=torch.float64)
    made.set_begin_index(0)
    return made


def grid(moves: int = MOVES) -> tuple[ContinuousProcess, Tensor, Tensor]:
    process = ContinuousProcess.of(MODEL, ODE())
    times = kappa_grid(process, moves, KAPPA_MAX, KAPPA_MIN)
    return process, times, process.interpolant.sigma(times[:-1])


def denoised(y: Tensor, kappa: Tensor) -> Tensor:
    return MODEL.denoised(y, float(EDM_PATH.t_of_kappa(kappa)))


def ours(solver, moves: int = MOVES) -> Tensor:
    process, times, _ = grid(moves)
    return drive(process, solver, times, reference_ends(256)[0], until=moves)


@pytest.mark.parametrize("case", MULTISTEP)
def test_multistep_solvers_agree(case):
    """States at the end, to rounding: DPMSolverMultistepScheduler keeps them in float32."""
    solver, name, options = MULTISTEP[case]
    _, _, kappa = grid()
    made = scheduler(name, kappa, **(WHOLE if "DEIS" not in name else PLAIN), **options)
    scale = torch.sqrt(1 + kappa**2)  # these work on the variance-preserving path
    x = reference_ends(256)[0] / scale[0]
    for i, t in enumerate(made.timesteps):
        x = made.step(denoised(x * scale[i], kappa[i]), t, x).prev_sample
    tolerance = 1e-5 if name.startswith("DPM") else 1e-11
    torch.testing.assert_close(x * scale[-1], ours(solver), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("solver", "name"),
    [(DDIM(), "EulerDiscreteScheduler"), (LMS(4), "LMSDiscreteScheduler")],
    ids=["euler", "lms"],
)
def test_solvers_in_kappa_agree(solver, name):
    """Weights of LMS are found by an adaptive quadrature with a relative tolerance of 1e-4."""
    _, _, kappa = grid()
    made = scheduler(name, kappa)
    y = reference_ends(256)[0]
    for i, t in enumerate(made.timesteps):
        made.is_scale_input_called = True
        y = made.step((y - denoised(y, kappa[i])) / kappa[i], t, y).prev_sample
    torch.testing.assert_close(y.double(), ours(solver), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("solver", "name"),
    [(EDMHeun(), "HeunDiscreteScheduler"), (DPMSolver2(), "KDPM2DiscreteScheduler")],
    ids=["heun", "dpm-2"],
)
def test_solvers_with_two_evaluations_agree(solver, name):
    _, _, kappa = grid()
    made = scheduler(name, kappa)
    made.sigmas = torch.cat([kappa[:1], kappa[1:].repeat_interleave(2), kappa[-1:]])
    middle = torch.sqrt(kappa[1:] * kappa[:-1])
    made.sigmas_interpol = torch.cat([kappa[:1], middle.repeat_interleave(2), middle[-1:]])
    made.timesteps = torch.arange(2 * MOVES, 0, -1)
    y = reference_ends(256)[0]
    for i, t in enumerate(made.timesteps):
        first = i % 2 == 0
        k = kappa[i // 2] if first else middle[i // 2] if "KDPM" in name else kappa[i // 2 + 1]
        y = made.step((y - denoised(y, k)) / k, t, y).prev_sample
    torch.testing.assert_close(y, ours(solver), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("solver", "algorithm"),
    [(DPMSolver2S(), "dpmsolver++"), (DPMSolver2(), "dpmsolver")],
    ids=["2s", "dpm-2"],
)
def test_singlestep_solvers_agree(solver, algorithm):
    """Theirs takes looks inside a step as levels of their own; its third order has another second stage."""
    _, _, kappa = grid()
    middle = torch.sqrt(kappa[1:] * kappa[:-1])
    levels = torch.cat([torch.stack([kappa[:-1], middle], dim=1).flatten(), kappa[-1:]])
    options = {"algorithm_type": algorithm, "prediction_type": "sample"}
    made = scheduler("DPMSolverSinglestepScheduler", levels, final_sigmas_type="sigma_min", **options)
    made.order_list = [1, 2] * MOVES
    scale = torch.sqrt(1 + levels**2)
    x = reference_ends(256)[0] / scale[0]
    for i, t in enumerate(made.timesteps):
        x = made.step(denoised(x * scale[i], levels[i]), t, x).prev_sample
    torch.testing.assert_close(x * scale[-1], ours(solver), rtol=1e-11, atol=1e-11)


def test_ipndm_agrees_on_its_own_grid():
    """IPNDMScheduler works on a circle, sigma = sin and alpha = cos, and its network gives the v of there."""
    made = pytest.importorskip("diffusers").IPNDMScheduler()
    made.set_timesteps(24)
    angle = torch.linspace(1, 0, 25, dtype=torch.float64)[3:22] * torch.pi / 2  # without the ends
    made.betas, made.alphas = torch.sin(angle), torch.cos(angle)
    made.timesteps = torch.arange(len(angle) - 1, 0, -1)
    made.set_begin_index(0)
    process = ContinuousProcess.of(gm2("trigonometric"), ODE())
    times = torch.cat([1 - angle / (torch.pi / 2), torch.ones(1, dtype=torch.float64)])
    x = start = reference_ends(256)[0] / KAPPA_MAX * made.betas[0]
    for i, t in enumerate(made.timesteps):
        at = process.evaluate(x, times[i])
        x = made.step(made.alphas[i] * at.noise - made.betas[i] * at.denoised, t, x).prev_sample
    end = drive(process, IPNDM(4), times, start, until=len(angle) - 1)
    torch.testing.assert_close(x, end, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("steps", [5, 7, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_spacings_agree(spacing, steps):
    made = pytest.importorskip("diffusers").DDIMScheduler(timestep_spacing=spacing, steps_offset=1)
    made.set_timesteps(steps)
    table = Table.linear()
    labels = table.index_of(grids.spaced(table, steps, spacing=spacing, offset=1)[:-1])
    assert labels.round(decimals=9).tolist() == made.timesteps.tolist()


@pytest.mark.parametrize("terminal", [None, 0.1])
def test_shifted_grids_agree(terminal):
    """Their noise levels are float32."""
    name = pytest.importorskip("diffusers").FlowMatchEulerDiscreteScheduler
    even = [1 - i / 9 for i in range(9)]
    static = name(shift=3.0, shift_terminal=terminal)
    static.set_timesteps(sigmas=even)
    dynamic = name(use_dynamic_shifting=True, shift_terminal=terminal)
    dynamic.set_timesteps(sigmas=even, mu=math.log(grids.dynamic_shift(1024)))
    for made, recipe in ((static, grids.Shifted(3.0)), (dynamic, grids.DynamicShifted(1024))):
        grid = recipe if terminal is None else grids.Stretched(recipe, terminal)
        noise = 1 - grid(Linear(), 9)
        torch.testing.assert_close(made.sigmas.double(), noise, rtol=0, atol=1e-6)
