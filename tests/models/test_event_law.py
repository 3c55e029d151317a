"""What a network samples, by enumeration: against a joint law, brute force, and the engine's samples."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.models import Enumerable, EventLaw, wrap_masked
from itscale.networks.masked_transformer import MaskedTransformer


@pytest.fixture(scope="module")
def network() -> MaskedTransformer:
    """Conditionals that belong to no joint law."""
    generator = torch.Generator().manual_seed(0)
    network = MaskedTransformer(vocabulary=3, length=4, width=16, layers=1, heads=2)
    for parameter in network.parameters():
        parameter.data.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def model(network):
    return wrap_masked(network, vocabulary=3, length=4)


def test_a_joint_law_comes_back_with_its_soft_values():
    joint = Enumerable(torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1)))
    rewards = torch.randn(81, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = EventLaw(joint)
    torch.testing.assert_close(found.law.law, joint.law, rtol=0, atol=1e-14)
    for tilt in (0.0, 0.7, 3.0):
        torch.testing.assert_close(
            found.soft_values(rewards, tilt), joint.soft_values(rewards, tilt), rtol=0, atol=1e-11
        )


def test_every_order_counts_alike(model):
    """One sequence, summed over the 24 orders by hand."""
    target = torch.tensor([2, 0, 1, 2])
    total = 0.0
    for order in itertools.permutations(range(4)):
        x, log_p = torch.full((4,), 3), 0.0
        for i in order:
            law = model.predict(x[None], torch.tensor(0.0), None)[0, i].double().log_softmax(0)
            log_p += float(law[target[i]])
            x[i] = target[i]
        total += math.exp(log_p) / 24
    law = EventLaw(model).law
    assert law.law[law.index(target)].item() == pytest.approx(total, rel=1e-6)
    assert law.law.sum().item() == pytest.approx(1)


def test_the_value_of_nothing_is_the_evidence(model):
    rewards = torch.randn(81, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = EventLaw(model)
    assert found.soft_values(rewards, 2.0)[-1].item() * 2 == pytest.approx(
        found.law.tilted_law(rewards, 2.0)[1], abs=1e-12
    )


def test_the_engine_samples_this_law(model):
    result = itscale.sample(model, n=20_000, seed=0)
    law = EventLaw(model).law
    counts = torch.bincount(law.index(result.states[0]), minlength=81).double()
    expected = 20_000 * law.law
    # chi-square of 80 degrees of freedom: mean 80, standard deviation 12.6
    assert float(((counts - expected).square() / expected).sum()) < 80 + 4.89 * 12.65


def test_models_that_cannot_be_enumerated_are_refused(network):
    with pytest.raises(ConfigError, match="shorter"):
        EventLaw(wrap_masked(lambda x: torch.zeros(*x.shape, 20), vocabulary=20, length=8))
    with pytest.raises(ConfigError, match="time"):
        EventLaw(wrap_masked(lambda x, t: torch.zeros(*x.shape, 3), vocabulary=3, length=4, time=True))
