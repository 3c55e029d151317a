"""Denoising MCMC with an exact classifier of noise levels: its distances, cost and settings."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from itscale.denoising_mcmc import DenoisingMCMC
from itscale.errors import ConfigError
from itscale.interpolants import EDM
from tests.engine.setting import Network, wrapped
from tests.oracles import gm2

CHAINS = 2000


def exact_posterior(setting: DenoisingMCMC):
    """``p(kappa | y)`` of the mixture, with equal odds of the levels."""
    path = EDM(sigma_max=setting.kappa_max, sigma_min=setting.kappa_min)
    model, times = gm2(path), path.t_of_kappa(setting.kappas)

    def log_p(y):
        return torch.stack([model.log_prob(y, t) for t in times], 1)

    return log_p


@cache
def distance(level: str, keep: str) -> float:
    """Mean over 16 directions of the W1 distance of 2000 samples to the data; its floor is about 0.03."""
    setting = DenoisingMCMC(level=level, keep=keep, levels=60)
    found = setting(gm2(), exact_posterior(setting), chains=CHAINS, seed=1, dtype=torch.float64)
    assert found.nfe == 2 * 20 + 30 + (10 + 2 * 4 + 1)
    angles = torch.arange(16, dtype=torch.float64) * math.pi / 16
    directions = torch.stack([angles.cos(), angles.sin()])
    exact = gm2().sample(10 * CHAINS, torch.Generator().manual_seed(7))
    exact = (exact @ directions).sort(0).values[5::10]
    return float(((found.samples[:, 0] @ directions).sort(0).values - exact).abs().mean())


def test_drawn_levels_and_last_states_are_near_the_data_and_the_biased_choices_farther():
    """Table, over two repeats: .045/.040, .101/.097, .067/.062; plain Heun with 11 evaluations .202."""
    best = distance("draw", "last")
    assert best < 0.065  # .045 and a fluctuation of 2000 samples, .02
    assert distance("draw", "least") > max(best, 0.07)
    assert distance("likeliest", "last") < 0.1


def test_chains_are_addressed_and_take_conditions():
    network = Network()
    setting = DenoisingMCMC(levels=5, moves=2, points=1, burn_in=1, start=2)

    def flat(y):
        return torch.zeros(len(y), 5)

    def run(chains, condition, seed=3):
        return setting(wrapped(network), flat, chains=chains, draws=3, seed=seed, condition=condition)

    found = run(4, 1.0)
    assert found.samples.shape == (4, 3, 3)
    assert network.rows == 4 * found.nfe == 4 * (2 * 2 + 1 + 3 * (2 + 2 + 1))
    torch.testing.assert_close(run(2, 1.0).samples, found.samples[:2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(run(4, 0.0).samples, found.samples)
    assert not torch.allclose(run(4, 1.0, seed=4).samples, found.samples)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"step": 0.0}, "step must be positive"),
        ({"moves": 0}, "moves must be a whole number"),
        ({"levels": 1}, "levels must be a whole number >= 2"),
        ({"points": 1.5}, "points must be a whole number"),
        ({"burn_in": -1}, "burn_in must be a whole number >= 0"),
        ({"kappa_min": 0.0}, "0 < kappa_min <= kappa_end < kappa_max"),
        ({"kappa_end": 30.0}, "0 < kappa_min <= kappa_end < kappa_max"),
        ({"level": "argmax"}, "level must be 'draw' or 'likeliest'"),
        ({"keep": "first"}, "keep 'last' or 'least'"),
    ],
    ids=str,
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        DenoisingMCMC(**setting)
