"""Operators that are not linear, by their Jacobian: products, solves, guidance that does not overshoot."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import itscale
from itscale.guides.observation import MeasuredNearby, spread
from itscale.methods import DPS, DiffPIR, PiGDM
from itscale.operators import (
    Dense,
    Exposure,
    Function,
    GaussianLikelihood,
    Linearised,
    Observed,
    PhaseRetrieval,
)
from itscale.operators.metrics import misfit
from tests.inverse.test_library import MEAN, SHAPE, STD, pictures

OPERATORS = [
    PhaseRetrieval((1, 4, 4)),
    Exposure((1, 4, 4), 1.5),
    Function(lambda x: (x.flatten(1)[:, :5] ** 2).cumsum(1), (1, 4, 4)),
    Dense(torch.randn(3, 16, generator=torch.Generator().manual_seed(3)), (1, 4, 4)),
]


def half(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@pytest.mark.parametrize("affine", [(0.5, 0.5), None], ids=["pixels", "decoded"])
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: type(o).__name__)
def test_products_are_those_with_the_jacobian(operator, affine):
    """Against the matrix that autograd writes out, to rounding in float64."""
    g = torch.Generator().manual_seed(1)
    x = 0.4 * torch.rand(3, 1, 4, 4, generator=g, dtype=torch.float64)
    y = torch.rand(operator.measurement_shape, generator=g, dtype=torch.float64)
    observed = Observed(GaussianLikelihood(operator, y, 0.3), affine)
    here = Linearised(observed, x, half)

    def measure(row: Tensor) -> Tensor:
        seen = half(row) if affine is None else 0.5 * row + 0.5
        return operator(seen[None])[0].flatten()

    v = torch.randn(x.shape, generator=g, dtype=torch.float64)
    u = torch.randn(3, operator.size, generator=g, dtype=torch.float64)
    along, back = here.push(v), here.pull(u.reshape(3, *operator.measurement_shape))
    for i in range(3):
        matrix = torch.autograd.functional.jacobian(measure, x[i]).reshape(operator.size, 16)
        # behind a decoder a central difference, which errs by the square of its step and near a kink
        bound = 1e-10 if affine else 0.05 * float(along[i].norm())
        assert float((along[i].flatten() - matrix @ v[i].flatten()).abs().max()) < bound
        torch.testing.assert_close(back[i].flatten(), matrix.T @ u[i], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(here.gap[i].flatten(), y.flatten() - measure(x[i]), rtol=0, atol=1e-12)
        top = float(torch.linalg.matrix_norm(matrix, 2) ** 2)
        assert 0.6 * top <= float(here.square[i]) <= top * (1 + 1e-3)  # five power iterations


def test_solves_are_those_with_the_gram_matrix():
    operator = Dense(torch.randn(3, 16, generator=torch.Generator().manual_seed(3)).double(), (1, 4, 4))
    y = torch.tensor([0.1, -0.2, 0.4], dtype=torch.float64)
    observed = Observed(GaussianLikelihood(operator, y, 0.3), (0.5, 0.5))
    here = Linearised(observed, torch.zeros(2, 1, 4, 4, dtype=torch.float64), half)
    torch.testing.assert_close(here.solve(here.gap, 0.09, 0.7), observed.solve(here.gap, 0.7))


def precise() -> GaussianLikelihood:
    """Magnitudes of a picture's padded transform: four times as many numbers as pixels, noise .005."""
    operator = PhaseRetrieval(SHAPE)
    g = torch.Generator().manual_seed(2)
    truth = (MEAN + STD * torch.randn(1, *SHAPE, generator=g) + 1) / 2
    y = operator(truth)[0]
    return GaussianLikelihood(operator, y + 0.005 * torch.randn(y.shape, generator=g), 0.005)


def fitted(method, reward: GaussianLikelihood) -> float:
    result = itscale.sample(
        pictures(), reward=reward, method=method, steps=40, process=itscale.SDE(), solver="ancestral"
    )
    return float(misfit(result.samples[0], reward).median())


def test_guidance_by_more_numbers_than_pixels_does_not_overshoot(monkeypatch):
    """Rows of such an operator overlap; one at a time they would ask for four times the step."""
    reward = precise()
    method = PiGDM(particles=16, prior_std=STD)
    assert fitted(method, reward) < 20
    assert fitted(DiffPIR(particles=16), reward) < 60

    def one_by_one(self, prospect, e):
        return e / (self.observed.std**2 + spread(prospect, self.prior_std) * self.observed.gain**2)

    monkeypatch.setattr(MeasuredNearby, "_weighed", one_by_one)
    assert fitted(method, reward) > 200


def test_the_weighted_form_agrees_with_that_of_other_proposals():
    """Whatever the push, weights lead to one posterior: the mean brightness by two methods."""
    operator = Exposure(SHAPE, 2.0)
    g = torch.Generator().manual_seed(5)
    truth = (MEAN + STD * torch.randn(1, *SHAPE, generator=g) + 1) / 2
    y = operator(truth)[0]
    reward = GaussianLikelihood(operator, y + 0.5 * torch.randn(y.shape, generator=g), 0.5)
    found = []
    for method in (PiGDM(particles=64, prior_std=STD, correct=True), DPS(particles=64, correct=True)):
        result = itscale.sample(
            pictures(), reward=reward, method=method, steps=20, groups=12, process=itscale.SDE(),
            solver="ancestral",
        )  # fmt: skip
        per_group = result.expect(lambda x: x.mean((1, 2, 3))).per_group
        found.append((float(per_group.mean()), float(per_group.std()) / 12**0.5))
    (a, ea), (b, eb) = found
    assert abs(a - b) < 4.89 * (ea**2 + eb**2) ** 0.5
