"""The exact transition: closed forms on one Gaussian, the law of a mixture, and faults that must show."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import itscale
from itscale import grids
from itscale.errors import ConfigError
from itscale.interpolants import EDM, VP, Linear
from itscale.process import SDE, ContinuousProcess
from itscale.solvers import Ancestral, Glass
from itscale.solvers.posterior_flow import PosteriorFlow
from itscale.solvers.schedule import Schedule
from tests.oracles import mixture_2d, mixture_16d
from tests.solvers.drive import drive, gaussian, looker

MEAN, STD = 0.7, 0.5
PATHS = [Linear(), VP(), EDM(sigma_max=20.0, sigma_min=0.01)]


def setting(diffusion="natural", interpolant=None, path="linear", steps=8):
    process = ContinuousProcess.of(
        gaussian(MEAN, STD, path), SDE(interpolant=interpolant, diffusion=diffusion)
    )
    return process, grids.uniform(process.interpolant, steps, process.t_start)


def posterior(process: ContinuousProcess, t: float, x: float) -> tuple[float, float]:
    """Mean and variance of the data given a state at time t."""
    alpha, sigma = float(process.interpolant.alpha(t)), float(process.interpolant.sigma(t))
    total = (alpha * STD) ** 2 + sigma**2
    return MEAN + alpha * STD**2 / total * (x - alpha * MEAN), (STD * sigma) ** 2 / total


def transition(process, times, solver, level, x=0.4):
    """Mean and deviation of a move on the line: with one Gaussian it is affine in its noise."""
    kernel = solver.build(process, times)
    states = torch.full((2, 1), x, dtype=torch.float64)
    at = process.evaluate(states, times[level])
    move = kernel(at, (), level, looker(process, times), torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    return float(move.x[0]), float(move.x[1] - move.x[0])


def exact_transition(process, times, level, x=0.4):
    schedule = Schedule.of(process, times)
    mean, variance = posterior(process, float(times[level]), x)
    pulled, std = schedule.pulled(level), schedule.noise_std(level)
    return schedule.kept(level) * x + pulled * mean, math.sqrt(pulled**2 * variance + std**2)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_before_any_inner_step_the_flow_knows_what_the_state_knows(path):
    process = ContinuousProcess.of(gaussian(MEAN, STD, path), SDE())
    for t in (0.1, 0.5, 0.9):
        flow = PosteriorFlow.build(process, t, 3, "ddim")
        x, y = torch.tensor([[0.3], [-2.0]], dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
        state, where = flow.meet(x, y, 0.0)
        torch.testing.assert_close(state, x, rtol=1e-9, atol=1e-9)
        assert where == pytest.approx(t, rel=1e-9)


@pytest.mark.parametrize("level", [0, 3, 6])
@pytest.mark.parametrize(
    ("diffusion", "interpolant", "path"),
    [
        ("natural", None, "linear"),
        ("natural", None, "vp"),
        ("natural", "vp", "linear"),
        ("sigma", None, "linear"),
        (0.7, None, "linear"),
        ("natural", None, EDM(sigma_max=20.0, sigma_min=0.01)),
    ],
    ids=str,
)
def test_with_many_inner_steps_a_move_is_a_draw_of_the_exact_transition(diffusion, interpolant, path, level):
    """The first-order inner error falls as 1 / inner steps: 1e-2 of the deviation leaves a factor of 3."""
    process, times = setting(diffusion, interpolant, path)
    mean, std = transition(process, times, Glass(inner_steps=200, inner_solver="ddim"), level)
    expected = exact_transition(process, times, level)
    assert abs(mean - expected[0]) <= 1e-2 * expected[1]
    assert std == pytest.approx(expected[1], rel=1e-2)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.9])
def test_a_flow_to_its_end_draws_the_data_given_the_state(t):
    process, _ = setting()
    flow = PosteriorFlow.build(process, t, 400, "dpm++2m")
    x = torch.full((2, 1), 0.4, dtype=torch.float64)
    noise = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    look = looker(process, torch.zeros(1))
    ends = flow(process.evaluate(x, torch.tensor(t, dtype=torch.float64)), noise, look)
    mean, variance = posterior(process, t, 0.4)
    assert float(ends[0]) == pytest.approx(mean, abs=1e-2 * STD)
    assert float(ends[1] - ends[0]) == pytest.approx(math.sqrt(variance), rel=1e-2)


def test_one_inner_step_is_the_ancestral_step():
    process = ContinuousProcess.of(mixture_2d(), SDE())
    times = grids.uniform(process.interpolant, 9, 0.0)
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(9, 16, 2, dtype=torch.float64, generator=generator)
    ends = [
        drive(process, solver, times, draws[8], lambda k: draws[k])
        for solver in (Ancestral(), Glass(inner_steps=1))
    ]
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-12, atol=1e-12)


def sampled_variance(solver, steps):
    """Mean variance over the coordinates of the mixture in 16 dimensions, 10 000 samples."""
    drawn = itscale.sample(mixture_16d(), n=10_000, steps=steps, process=SDE(), solver=solver, seed=1)
    return float(drawn.samples[0].var(dim=0).mean())


def test_inner_steps_bring_the_variance_of_a_mixture_to_its_exact_value():
    """Standard error of the mean variance over 16 coordinates: about 0.007; ten plain steps lose 0.24."""
    exact = float(mixture_16d().cov().diagonal().mean())
    plain, inner = (sampled_variance(Glass(inner_steps=m), 10) for m in (1, 16))
    assert abs(inner - exact) <= 0.04
    assert plain < exact - 0.15


class Forgetful(PosteriorFlow):
    """Takes the inner state alone for what is known of the data."""

    def meet(self, x, y, u):
        return super().meet(torch.zeros_like(x), y, u)


class Doubled(PosteriorFlow):
    """Counts the inner precision twice."""

    def meet(self, x, y, u):
        shown = 2 * (u / (1 - u)) ** 2
        return super().meet(x, y, shown**0.5 / (1 + shown**0.5))


@pytest.mark.parametrize("fault", [Forgetful, Doubled])
def test_faulty_flows_are_noticed(fault):
    process, times = setting()
    kernel = Glass(inner_steps=200, inner_solver="ddim").build(process, times)
    flows = tuple(fault(f.path, f.alpha, f.sigma, f.leg) for f in kernel.flows)

    class Broken:
        def build(self, process, times):
            return replace(kernel, flows=flows)

    found, expected = transition(process, times, Broken(), 3), exact_transition(process, times, 3)
    assert abs(found[0] - expected[0]) > 2e-2 * expected[1] or abs(found[1] / expected[1] - 1) > 2e-2


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"inner_steps must be a whole number >= 1, got 0"):
        Glass(inner_steps=0)
    with pytest.raises(ConfigError, match=r"an inner solver is one of ddim, dpm\+\+2m, got 'heun'"):
        Glass(inner_solver="heun")  # type: ignore[arg-type]
