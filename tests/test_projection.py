"""Exponents fitted to the paths of tilted runs: closed forms for Gaussians, and the guard."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import CTS
from itscale.particles import effective_sample_size
from itscale.sampling.projection import DAMPING, Paths, _reachable, projected
from tests.solvers.drive import gaussian

SIZES = (0.5, 1.0, 2.0, 1.0)  # standard deviations of the value at four levels


def normal(mean: tuple[float, ...] = (0.0,) * 4) -> Paths:
    """Nodes and weights that integrate polynomials times a Gaussian exactly."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    x = torch.tensor(nodes)[:, None] * torch.tensor(SIZES).double() + torch.tensor(mean).double()
    weight = torch.tensor(weights)
    return Paths(x, weight / weight.sum())


def test_for_a_gaussian_the_exponent_is_the_shift_over_the_variance():
    """E[f e^(a f)] / E[e^(a f)] = a s^2, for two groups twice that."""
    aims = (0.1, 0.4, 2.0, 0.3)
    found = projected([normal(), normal()], [normal(aims), normal(aims)], torch.full((4,), 0.5).double())
    expected = [m / (s**2 + DAMPING / 2) for m, s in zip(aims, SIZES, strict=True)]
    assert found[:3].tolist() == pytest.approx(expected[:3], abs=1e-6)
    assert float(found[3]) == 1  # whatever its paths say


def test_exponents_stay_between_0_and_1_2():
    aims = (-1.0, 5.0, 1.0, 1.0)
    found = projected([normal()], [normal(aims)], torch.ones(4).double())
    assert found[:2].tolist() == [0.0, 1.2]


def test_a_spread_out_of_reach_is_lowered_to_where_ten_trajectories_count():
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(3, 64, 5, generator=generator, dtype=torch.float64)
    base = [Paths(v, torch.full((64,), 1 / 64).double()) for v in value]
    assert _reachable(base, 0.5) == 0.5
    found = _reachable(base, 4.0)
    assert 0.5 < found < 4
    assert min(float(effective_sample_size(found * v[:, -1])) for v in value) == pytest.approx(10)


def test_a_linear_reward_of_a_gaussian_has_exponents_of_one():
    """p_k exp(tilt r(D)) is then the tilted law itself, up to the steps' errors.

    Exponents are known to 1 / (spread correlation sqrt(n)): 0.05 from 1,000 effective paths at a squared
    correlation of 0.2, which level 8 has.
    """
    profile = itscale.calibrate(
        gaussian(0.4, 0.7),
        itscale.reward(name="first", modality="vector")(lambda vectors: vectors[:, 0]),
        steps=20,
        groups=4,
        trajectories=1000,
        fit="kl",
        spread=1.5,
    )
    assert profile.fitted_at == 1.5
    assert profile.nfe == 4 * 1000 * 20 + 2 * 4 * 4 * 200 * 20
    assert profile.fitted[8:] == pytest.approx([1.0] * 12, abs=0.2)
    assert sum(profile.fitted[8:]) / 12 == pytest.approx(1.0, abs=0.06)
    assert profile.exponents() == profile.fitted
    found = itscale.sample(
        gaussian(0.4, 0.7),
        reward=lambda vectors: vectors[:, 0],
        method=CTS(particles=8, profile=profile),
        steps=10,  # fitted exponents are interpolated too
    )
    assert found.claim["evidence"] == "unbiased"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trajectories": 8}, "needs at least 10 trajectories with rewards in every group, and one has 8"),
        ({"reward": None}, "fit='kl' fits exponents of a reward"),
        ({"fit": "exact"}, "fit must be 'slope' or 'kl'"),
        ({"spread": 0.0}, "spread must be > 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(settings, message):
    settings = {"reward": lambda vectors: vectors[:, 0], "fit": "kl", **settings}
    with pytest.raises(ConfigError, match=message):
        itscale.calibrate(gaussian(0.3, 0.8), steps=4, groups=2, **settings)
