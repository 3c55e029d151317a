"""Guided proposals keep their targets whatever guides them: posteriors of a noisy measurement."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

import itscale
from itscale import compose
from itscale.decoders import GuidedTokens, straight_through
from itscale.errors import ConfigError
from itscale.methods import SMC, ParticleGibbs, Unguided
from itscale.scoring import Reward
from tests.decoders.laws import propagate
from tests.decoders.toy import other, toy, tv

MODEL = toy().model
WEIGHTS = torch.tensor([1.0, -0.5, 0.8, 0.3, -1.2])


def statistic(one_hot: Tensor) -> Tensor:
    """A linear function of the sequence."""
    value = one_hot @ torch.arange(4.0)
    return value @ WEIGHTS


def fit(one_hot: Tensor) -> Tensor:
    return -(statistic(one_hot) - 3.0).square() / 8


def hot(x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(x, 4).float()


LIKELIHOOD = Reward.of(lambda sequences: fit(hot(sequences)), name="fit", modality="sequence")


@cache
def truth() -> tuple[Tensor, float]:
    return MODEL.tilted_law(fit(hot(MODEL.sequences)).double())


def by_values(x: Tensor, log_probs: Tensor) -> Tensor:
    """What a token at a position adds to the soft value, exactly."""
    values = MODEL.soft_values(fit(hot(MODEL.sequences)).double())
    place = 5 ** torch.arange(4, -1, -1)
    here = (x * place).sum(1)
    hidden = x == 4
    there = here[:, None, None] - (4 - torch.arange(4)) * place[:, None] * hidden[..., None]
    return torch.where(hidden[..., None], values[there] - values[here][:, None, None], 0.0)


GUIDES = {
    "gradient": GuidedTokens(tilts=straight_through(fit), order="anchored", cap=1.0),
    "gradient, random order": GuidedTokens(tilts=straight_through(fit, 0.5), cap=1.0),
    "exact": GuidedTokens(tilts=by_values, order="anchored"),
    "wrong": GuidedTokens(tilts=lambda x, log_probs: torch.sin(torch.arange(4.0)).expand(log_probs.shape)),
}


@pytest.mark.parametrize("name", GUIDES)
def test_weights_take_the_tilt_of_tokens_back(name):
    mass = propagate(MODEL, GUIDES[name], weighted=True)
    assert tv(mass, MODEL.law) < 1e-12
    plain = propagate(MODEL, GUIDES[name])
    assert float(plain.sum()) == pytest.approx(1, abs=1e-12)
    assert tv(plain, MODEL.law) > 0.03


def test_exact_tilts_leave_no_other_weight_than_the_normaliser():
    law, _ = truth()
    assert tv(propagate(MODEL, GUIDES["exact"]), law) < 1e-12


@pytest.mark.parametrize("name", GUIDES)
def test_particles_find_the_posterior(name):
    law, log_z = truth()
    values = MODEL.sequences.float() @ torch.arange(1.0, 6.0)
    mean = float(law @ values.double())
    result = itscale.sample(
        MODEL, reward=LIKELIHOOD, method=SMC(particles=32), solver=GUIDES[name], groups=300, seed=1
    )
    assert result.claim["target"] == "tilted"
    evidence = (result.log_evidence - log_z).exp()
    found = result.expect(lambda x: x.float() @ torch.arange(1.0, 6.0)).per_group
    for estimate, expected in ((evidence, 1.0), (evidence * (found - mean), 0.0)):
        assert abs(float(estimate.mean()) - expected) < 4.89 * float(estimate.std()) / 300**0.5


def test_the_more_particles_the_nearer_and_without_weights_never():
    law, _ = truth()
    guide = GUIDES["gradient"]
    off = []
    for particles in (4, 32, 256):
        result = itscale.sample(
            MODEL, reward=LIKELIHOOD, method=SMC(particles=particles), solver=guide, groups=16384 // particles
        )
        off.append(tv(MODEL.histogram(result.states, result.weights), law))
    assert off[0] > off[1] > off[2]
    alone = itscale.sample(MODEL, n=16384, method=Unguided(), solver=guide)
    assert tv(MODEL.histogram(alone.states), law) > off[2] + 0.1


def test_guides_serve_compositions_and_particle_gibbs():
    law = compose.geometric_mean(MODEL, other())
    mass = propagate(law, GUIDES["gradient"], weighted=True)
    exact, log_z = MODEL.power([0.5, 0.5], other())
    assert float(mass.sum().log()) == pytest.approx(log_z, abs=1e-12)
    assert tv(mass / mass.sum(), exact.law) < 1e-12
    method = ParticleGibbs(particles=4, sweeps=20, burn_in=10, ancestor_sampling=True, scheme="multinomial")
    result = itscale.sample(
        MODEL, reward=LIKELIHOOD, method=method, solver=GUIDES["gradient, random order"], groups=200
    )
    values = (MODEL.sequences.float() @ torch.arange(1.0, 6.0)).double()
    found = result.expect(lambda x: x.float() @ torch.arange(1.0, 6.0)).per_group
    assert abs(float(found.mean()) - float(truth()[0] @ values)) < 4.89 * float(found.std()) / 200**0.5


def test_tilts_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match="tilts must return"):
        itscale.sample(MODEL, n=2, solver=GuidedTokens(tilts=lambda x, log_probs: log_probs[..., 0]))
    with pytest.raises(ConfigError, match="tilts must be callable"):
        GuidedTokens(tilts=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="guided needs its tilts"):
        itscale.sample(MODEL, n=2, solver="guided")
