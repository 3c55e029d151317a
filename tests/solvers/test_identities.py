"""Solvers that must coincide, and cases in which they are exact."""

from __future__ import annotations

import itertools

import pytest
import torch

from itscale import grids, models
from itscale.interpolants import VP, Linear
from itscale.process import ODE, SDE, ContinuousProcess, Natural
from itscale.solvers import DDIM, SDE2M, Ancestral, DPMSolver2M, EulerMaruyama, Heun, SDEHeun
from tests.oracles import mixture_2d
from tests.solvers.drive import affine_law, drive, gaussian

EXACT = {"rtol": 1e-12, "atol": 1e-12}
POINT = torch.tensor([0.8, -1.7], dtype=torch.float64)


def start(rows: int = 16) -> torch.Tensor:
    return torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def noises(level: int) -> torch.Tensor:
    return torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(100 + level))


def run(solver, view, path="linear", steps=9, noise=None):
    process = ContinuousProcess.of(mixture_2d(path), view)
    times = grids.uniform(process.interpolant, steps, process.t_start)
    return drive(process, solver, times, start() * float(process.interpolant.sigma(times[0])), noise)


def test_ddim_on_the_linear_path_is_euler():
    process = ContinuousProcess.of(mixture_2d(), ODE())
    times = grids.uniform(process.interpolant, 9, 0.0)
    x = start()
    for t0, t1 in itertools.pairwise(times):
        x = x + (t1 - t0) * process.evaluate(x, t0).velocity
    torch.testing.assert_close(run(DDIM(), ODE()), x, **EXACT)


@pytest.mark.parametrize("path", ["linear", "vp", "cosine"])
def test_two_step_sde_solver_without_noise_is_the_ode_solver(path):
    without = run(SDE2M(), SDE(diffusion=Natural(eta_sde=0.0)), path, noise=noises)
    torch.testing.assert_close(without, run(DPMSolver2M(), ODE(), path), **EXACT)


@pytest.mark.parametrize("path", ["linear", "vp", "cosine"])
def test_first_order_exponential_sde_step_is_the_ancestral_step(path):
    """The published form sigma_+/sigma e^-h x + alpha_+ (1 - e^-2h) D + sigma_+ sqrt(1 - e^-2h) z."""
    process = ContinuousProcess.of(mixture_2d(path), SDE())
    times = grids.uniform(process.interpolant, 9, process.t_start)
    x = start() * float(process.interpolant.sigma(times[0]))
    interpolant = process.interpolant
    for level in range(8):
        alpha, sigma = interpolant.alpha(times[level + 1]), interpolant.sigma(times[level + 1])
        h = interpolant.log_snr(times[level + 1]) - interpolant.log_snr(times[level])
        denoised = process.evaluate(x, times[level]).denoised
        kept = sigma / interpolant.sigma(times[level]) * torch.exp(-h)
        loss = -torch.expm1(-2 * h)
        x = kept * x + alpha * loss * denoised + sigma * loss.sqrt() * noises(level)
    x = process.evaluate(x, times[8]).denoised
    torch.testing.assert_close(run(Ancestral(), SDE(), path, noise=noises), x, **EXACT)


def test_first_step_from_pure_noise_is_the_same_for_all_stochastic_solvers():
    process = ContinuousProcess.of(mixture_2d(), SDE())
    times = grids.uniform(process.interpolant, 9, 0.0)
    ends = [
        drive(process, s, times, start(), noises, until=1)
        for s in (Ancestral(), SDE2M(), EulerMaruyama(), SDEHeun())
    ]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], **EXACT)


def point_mass(path: str):
    return models.wrap(
        lambda x, t: POINT.expand_as(x), predicts="denoised", interpolant=path, event_shape=(2,)
    )


@pytest.mark.parametrize("steps", [2, 3, 11])
@pytest.mark.parametrize("path", ["linear", "vp", "cosine", "edm"])
@pytest.mark.parametrize("solver", [DDIM(), DPMSolver2M()], ids=repr)
def test_exponential_solvers_are_exact_for_a_point_mass(solver, path, steps):
    process = ContinuousProcess.of(point_mass(path), ODE())
    times = grids.uniform(process.interpolant, steps, process.t_start)
    sigma, alpha = process.interpolant.sigma, process.interpolant.alpha
    t0, t1 = times[0], times[-2]
    unit = start()
    x = alpha(t0) * POINT + sigma(t0) * unit
    end = drive(process, solver, times, x, until=steps - 1)
    # states reach 300 on the EDM path; 1e-12 of that
    torch.testing.assert_close(end, alpha(t1) * POINT + sigma(t1) * unit, rtol=1e-12, atol=3e-10)
    torch.testing.assert_close(drive(process, solver, times, x), POINT.expand(16, -1), **EXACT)


@pytest.mark.parametrize("steps", [2, 3, 11])
def test_heun_is_exact_for_a_point_mass_where_trajectories_are_straight(steps):
    process = ContinuousProcess.of(point_mass("linear"), ODE())
    times = grids.uniform(process.interpolant, steps, 0.0)
    end = drive(process, Heun(), times, start(), until=steps - 1)
    t = times[-2]
    torch.testing.assert_close(end, t * POINT + (1 - t) * start(), **EXACT)


@pytest.mark.parametrize("diffusion", ["natural", "sigma", "linear", 0.7])
@pytest.mark.parametrize("path", [Linear(), VP()], ids=repr)
@pytest.mark.parametrize("solver", [Ancestral(), Ancestral(eta_ddim=0.3), SDE2M()], ids=repr)
def test_exponential_sde_solvers_keep_the_law_of_a_point_mass(solver, path, diffusion):
    """For data N(0.7, 1e-18) the state at time t is N(0.7 alpha, sigma^2) whatever the noise."""
    process = ContinuousProcess.of(gaussian(0.7, 1e-9, path), SDE(diffusion=diffusion))
    times = grids.uniform(path, 7, process.t_start)
    law = affine_law(process, solver, times, float(path.sigma(times[0])), until=6)
    alpha, sigma = float(path.alpha(times[6])), float(path.sigma(times[6]))
    # VP starts from N(0, sigma^2) where the path has mean 0.7 * 0.0066; the rest is kept by exp(-exponent)
    missing = 0.7 * float(path.alpha(times[0])) * sigma / float(path.sigma(times[0]))
    assert abs(law.mean - 0.7 * alpha) <= missing + 1e-12
    assert law.variance == pytest.approx(sigma**2, rel=1e-9)


def test_sampling_on_another_path_is_sampling_on_the_models_own_where_ratios_agree():
    model = mixture_2d()
    own, other = (ContinuousProcess.of(model, ODE(interpolant=p)) for p in ("linear", "vp"))
    times = grids.karras(other.interpolant, 12, other.t_start)
    same = torch.cat([own.interpolant.t_of_kappa(other.interpolant.kappa(times[:-1])), times[-1:]])
    unit = start()
    ends = [
        drive(p, DDIM(), t, unit * float(p.interpolant.sigma(t[0]))) for p, t in ((own, same), (other, times))
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=1e-10)
