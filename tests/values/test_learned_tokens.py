"""Learned values of masked models against exact means and soft values; what they cost; what they refuse."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import SMC, SVDD, NestedSMC
from itscale.models import Enumerable, wrap_masked
from itscale.values import Tabulated
from tests.decoders.toy import toy, zeros
from tests.solvers.drive import gaussian

L = 5


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Fitted means, and soft values of tilt 1, of the number of zeros in 1,024 sequences."""
    folder = tmp_path_factory.mktemp("values")
    settings = {"samples": 8000, "updates": 300, "width": 32, "rate": 4e-3}
    return {
        t: itscale.fit_value(toy().model, zeros, folder / f"{t}.pt", tilt=t, **settings) for t in (0.0, 1.0)
    }


def forecast(value, x):
    from itscale.values.learned import _loaded

    with torch.no_grad():
        return _loaded(value.path, value.digest)[0](x, (x != 4).double().mean(dim=1)).double()


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_it_learns_means_and_soft_values_of_masked_states(fitted, tilt):
    """States weighted by how often they come; deviations of exact values are 0.60, 0.52, 0.43, 0.30."""
    model = toy().model
    x, chance = model.states, model.log_prob(model.states).exp()
    found = forecast(fitted[tilt], x)
    own, other = (model.soft_values(zeros(model.sequences), t) for t in (tilt, 1.0 - tilt))
    for hidden in range(1, L + 1):
        at = (x == 4).sum(dim=1) == hidden

        def error(exact, at=at):
            return float((chance[at] @ (found - exact)[at].square() / chance[at].sum()).sqrt())

        assert error(own) < 0.2
        if hidden >= 3:
            assert error(own) < error(other) - 0.03


def test_chains_are_steered_as_by_exact_means(fitted):
    model = toy().model
    exact = Tabulated(model.soft_values(zeros(model.sequences), 0.0))
    means = [
        itscale.sample(
            model, reward=zeros, value=value, method=SVDD(particles=2000, children=6), tilt=2.0, seed=1
        )
        for value in (fitted[0.0], exact)
    ]
    learned, known = (float(r.rewards.mean()) for r in means)
    base = float(model.law @ zeros(model.sequences).double())
    assert base + 0.75 * (known - base) < learned < known + 0.06


@pytest.mark.parametrize(
    ("method", "nfe", "calls"),
    [
        (SVDD(particles=3, children=4), 3 * L, 3 * 4),
        (NestedSMC(particles=3, children=4), 3 * L, 3 * 4),
        (SMC(particles=6), 6 * L, 6),
    ],
    ids=repr,
)
def test_children_are_chosen_before_they_are_looked_at(fitted, method, nfe, calls):
    """One look a chain and level however many children; complete sequences need none."""
    run = {"reward": zeros, "value": fitted[0.0], "method": method, "tilt": 2.0}
    result = itscale.sample(toy().model, budget=itscale.Budget(nfe=nfe, reward_calls=calls), **run)
    assert result.spent.nfe == [nfe]
    assert result.spent.reward_calls == [calls]
    with pytest.raises(BudgetError, match=f"need nfe = {nfe}"):
        itscale.sample(toy().model, budget=itscale.Budget(nfe=nfe - 1), **run)


@pytest.mark.parametrize("method", [NestedSMC(particles=8, children=4), SMC(particles=16)], ids=repr)
def test_the_evidence_stays_unbiased(fitted, method):
    model = toy().model
    _, log_z = model.tilted_law(zeros(model.sequences), 1.0)
    result = itscale.sample(model, reward=zeros, value=fitted[1.0], method=method, groups=800, seed=2)
    z = (result.log_evidence - log_z).exp()
    assert abs(float(z.mean()) - 1) < 3.5 * float(z.std()) / 800**0.5
    assert float(z.std()) < 0.4


def test_labels_and_uniform_noise_have_values_too(tmp_path):
    def conditional(x, condition):
        logits = torch.zeros(*x.shape, 3)
        logits[..., 0] = condition.float()[:, None]
        return logits

    model = wrap_masked(conditional, vocabulary=3, length=4, conditional=True)
    settings = {"samples": 200, "updates": 60, "width": 16, "rate": 1e-2}
    value = itscale.fit_value(model, zeros, tmp_path / "a.pt", condition=[0, 2], groups=2, **settings)
    run = {"reward": zeros, "value": value, "method": SVDD(particles=2, children=3), "seed": 0}
    together = itscale.sample(model, condition=[0, 2], groups=2, **run)
    alone = itscale.sample(model, condition=[2], groups=[1], **run)
    assert torch.equal(together.samples[1:], alone.samples)
    with pytest.raises(ConfigError, match="fitted for labels below 3, got 7"):
        itscale.sample(model, condition=7, **run)

    revised = wrap_masked(
        lambda x, t: torch.zeros(*x.shape, 3), vocabulary=3, length=4, time=True, noise="uniform"
    )
    value = itscale.fit_value(revised, zeros, tmp_path / "b.pt", solver="uniform-noise", steps=4, **settings)
    assert value.facts["explained"]["0.9"] > value.facts["explained"]["0.25"]
    result = itscale.sample(revised, solver="uniform-noise", steps=4, **{**run, "value": value})
    assert result.spent.nfe == [2 * 4]


def test_values_of_other_models_are_refused(fitted):
    other = Enumerable(torch.zeros((3,) * L))
    with pytest.raises(ConfigError, match="5 positions of 5 tokens with the mask, and the model has 5 of 4"):
        itscale.sample(other, reward=zeros, value=fitted[0.0])
    with pytest.raises(ConfigError, match="was fitted to a masked model; fit one for this model"):
        itscale.sample(gaussian(), reward=lambda vectors: vectors[:, 0], value=fitted[0.0], steps=4)
