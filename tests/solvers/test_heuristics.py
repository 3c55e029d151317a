"""What the heuristics against a model's error do in 64 dimensions, where they help and where they harm."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from itscale import models
from itscale.interpolants import EDM
from itscale.models import EpsilonScaled, GaussianMixture
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import DDIM, DPMSolver2M, DualFast
from tests.solvers.drive import drive, kappa_grid

DIM, SAMPLES, STEPS = 64, 3000, 20
PATH = EDM(sigma_max=40.0, sigma_min=0.01)
PROBLEMS = (0, 1, 2)
SIZES = {
    "none": lambda k: 0.0,
    "uniform": lambda k: 0.2,
    "early": lambda k: 0.4 * k**2 / (k**2 + 1),
}


@functools.cache
def exact(problem: int) -> GaussianMixture:
    """Eight equal components of spread 0.25 around means from N(0, 0.25)."""
    generator = torch.Generator().manual_seed(problem)
    means = 0.5 * torch.randn(8, DIM, generator=generator, dtype=torch.float64)
    return GaussianMixture([1 / 8] * 8, means, [0.25] * 8, interpolant=PATH, dtype=torch.float64)


def model(problem: int, error: str):
    """The noise of the mixture, off by ``a phi(kappa) F(y / sqrt(1 + kappa^2))`` with a random smooth F."""
    mixture = exact(problem)
    generator = torch.Generator().manual_seed(100 + problem)
    mix = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64) / math.sqrt(DIM)
    phase = 2 * math.pi * torch.rand(DIM, generator=generator, dtype=torch.float64)

    def noise(y, t):
        kappa = float(PATH.sigma(t.flatten()[0]))
        field = torch.sin(1.7 * (y / math.sqrt(1 + kappa**2)) @ mix + phase)
        return (y - mixture.denoised(y, t.flatten()[0])) / kappa + SIZES[error](kappa) * field

    return models.wrap(noise, predicts="noise", interpolant=PATH, event_shape=(DIM,))


@functools.cache
def truth(problem: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    directions = torch.randn(DIM, 32, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=0)
    many = exact(problem).sample(12 * SAMPLES, generator) @ directions
    return directions, many.sort(0).values.reshape(SAMPLES, 12, 32).mean(1)


@functools.cache
def distance(solver, error: str, scale: float = 1.0) -> float:
    """Mean over problems of the W1 distance of projections to the data; its floor is 0.011."""
    found = []
    for problem in PROBLEMS:
        seen = EpsilonScaled(model(problem, error), scale)
        process = ContinuousProcess.of(seen, ODE())
        times = kappa_grid(process, STEPS, 40.0, 0.05)
        generator = torch.Generator().manual_seed(1)
        start = 40 * torch.randn(SAMPLES, DIM, generator=generator, dtype=torch.float64)
        directions, sorted_truth = truth(problem)
        end = drive(process, solver, times, start)
        found.append(float(((end @ directions).sort(0).values - sorted_truth).abs().mean()))
    return sum(found) / len(found)


def share(solver, error: str, scale: float = 1.0) -> float:
    """Of the distance of DDIM with the same model; starts are the same, so that 0.002 / 0.02 is noise."""
    return distance(solver, error, scale) / distance(DDIM(), error)


@pytest.mark.slow
def test_extrapolating_away_from_the_first_noise_helps_a_wrong_model_and_biases_a_good_one():
    """Another implementation, other random problems: .0978 to .0565, .0856 to .0683, and .0235 to .0269."""
    solver = DualFast(c_max=0.5, anchor="first")
    assert share(solver, "early") == pytest.approx(0.58, abs=0.06)
    assert share(solver, "uniform") == pytest.approx(0.80, abs=0.10)
    assert 1.05 < share(solver, "none") < 1.5


@pytest.mark.slow
def test_with_an_exact_model_the_second_order_is_the_cure():
    """Tabulated: .0259 for DDIM, .0140 with noise divided by 1.02, .0119 in two steps."""
    assert share(DPMSolver2M(), "none") < share(DDIM(), "none", 1.02) < 0.65
    assert distance(DDIM(), "none") == pytest.approx(0.024, rel=0.15)
    assert share(DDIM(), "early", 1.02) > 1.03
