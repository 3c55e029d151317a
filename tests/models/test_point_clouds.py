"""Points without their centre of mass: the space, the noise on it, and the dimension that weights count."""

from __future__ import annotations

import math

import pytest
import torch

from itscale.errors import ConfigError
from itscale.interpolants import VE
from itscale.methods import FKC
from itscale.models.point_clouds import WithoutCentre, wrap_points
from itscale.networks.point_denoiser import PointDenoiser
from itscale.sampling import sample

POINTS, FREE = 5, 12  # (5 - 1) x 3
VARIANCE, PATH = 0.7, VE(0.01, 4.0)
GENERATOR = torch.Generator().manual_seed(0)


def normal_points(shift=0.0):
    """Centred points, normal with variance 0.7 per coordinate of their space: all in closed form."""

    def denoised(x, t):
        sigma = PATH.sigma(t).to(x)[:, None, None]
        return VARIANCE / (VARIANCE + sigma**2) * x + shift

    return wrap_points(denoised, points=POINTS, predicts="denoised", interpolant=PATH, variance=VARIANCE)


@pytest.mark.parametrize("points", [2, 5, 13])
def test_coordinates_are_orthonormal_and_their_positions_centred(points):
    space = WithoutCentre(lambda x, t: x, points)
    torch.testing.assert_close(space.basis.T @ space.basis, torch.eye(points - 1, dtype=torch.float64))
    x = torch.randn(7, points, 3, generator=GENERATOR, dtype=torch.float64)
    back = space.positions(space.coordinates(x + 3.0))
    torch.testing.assert_close(back, x - x.mean(dim=1, keepdim=True))


def test_normal_coordinates_are_normal_noise_without_its_mean():
    """Its covariance is that of noise minus its mean, I - 1/n; a rotation of either turns the other."""
    space = WithoutCentre(lambda x, t: x, POINTS)
    covariance = space.basis @ space.basis.T
    expected = torch.eye(POINTS, dtype=torch.float64) - 1 / POINTS
    torch.testing.assert_close(covariance, expected)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR, dtype=torch.float64))[0]
    x = torch.randn(2, POINTS - 1, 3, generator=GENERATOR, dtype=torch.float64)
    torch.testing.assert_close(space.positions(x @ turn), space.positions(x) @ turn)


def test_a_common_shift_of_what_the_network_returns_is_dropped():
    x = torch.randn(2, POINTS - 1, 3, generator=GENERATOR)
    t = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(normal_points(3.0).predict(x, t, None), normal_points().predict(x, t, None))


def test_evidence_of_an_annealed_normal_law_counts_the_free_dimensions():
    """``integral q^2 = (4 pi v)^(-d/2)`` with d = 12, not 15; all weights are equal by the gauge.

    The trapezoid rule is off by less than 0.01 at 400 steps; one dimension more or less is 1.1.
    """
    result = sample(normal_points() ** 2, method=FKC(), n=64, steps=400, seed=0)
    at_end = VARIANCE + PATH.sigma_min**2
    assert float(result.log_evidence[0]) == pytest.approx(
        -FREE / 2 * math.log(4 * math.pi * at_end), abs=0.02
    )
    assert float(result.log_weights.std()) < 1e-3  # states are float32


def test_annealed_samples_have_the_variance_of_the_law_and_no_centre():
    """4000 samples of 12 numbers: the error of a variance is 0.65 %, of the steps about 1 %."""
    result = sample(normal_points() ** 2, method=FKC(), n=4000, steps=100, seed=0)
    positions = result.resample(4000)[0]  # samples are decoded
    assert positions.shape == (4000, POINTS, 3)
    assert positions.mean(dim=1).abs().max() < 1e-5
    assert float(positions.square().sum(dim=(1, 2)).mean()) / FREE == pytest.approx(VARIANCE / 2, rel=0.03)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PointDenoiser(width=16, layers=3, data_std=1.0).double()


@pytest.fixture(scope="module")
def points():
    x = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x - x.mean(dim=1, keepdim=True)


SIGMA = torch.tensor([0.02, 0.3, 1.0, 4.0], dtype=torch.float64)


def test_network_turns_and_mirrors_with_the_points(network, points):
    turn = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR, dtype=torch.float64))[0]
    for way in (turn, -turn):
        torch.testing.assert_close(network(points @ way, SIGMA), network(points, SIGMA) @ way)


def test_network_is_permuted_with_the_points(network, points):
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(network(points[:, order], SIGMA), network(points, SIGMA)[:, order])


def test_network_returns_centred_points_and_keeps_clean_ones(network, points):
    assert network(points, SIGMA).mean(dim=1).abs().max() < 1e-12
    clean = network(points, torch.full_like(SIGMA, 1e-4))
    torch.testing.assert_close(clean, points, atol=1e-2, rtol=0)


def test_gradient_is_finite_where_points_meet(network):
    x = torch.zeros(1, 7, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x, SIGMA[:1]).square().sum() + network(x, SIGMA[:1]).sum(), x)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": 1}, "points must be a whole number >= 2, got 1"),
        ({"points": True}, "points must be"),
        ({"dimensions": 0}, "dimensions must be a whole number >= 1, got 0"),
        ({"predicts": "noize"}, "Did you mean 'noise'"),
        ({"variance": -1.0}, "variance of the data must be > 0, got -1.0"),
        ({"module": 3}, "module must be callable"),
    ],
)
def test_impossible_argument_names_field_value_and_fix(change, said):
    arguments = {"module": lambda x, t: x, "points": 5, "predicts": "noise", "interpolant": "ve", **change}
    with pytest.raises(ConfigError, match=said):
        wrap_points(arguments.pop("module"), **arguments)
