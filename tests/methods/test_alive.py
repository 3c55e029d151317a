"""Alive sampling: unbiased shares and samples under a constraint, whatever the rounds and the cap."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.budget import Budget
from itscale.errors import BudgetError, ConfigError, RewardError
from itscale.methods import Alive
from itscale.models import GaussianMixture
from tests.engine.setting import CountingReward, Network, smooth, wrapped
from tests.solvers.drive import gaussian

STEPS, GROUPS, BAR = 4, 1500, 0.5
MODEL = gaussian(0.0, 1.0)  # normal data at every time: the ODE is exact up to the scale that it ends with


@itscale.reward(name="above", modality="vector")
def above(vectors):
    return torch.where(vectors[:, 0] > BAR, vectors[:, 0], -torch.inf)


def run(method, groups=GROUPS, **settings):
    settings = {
        "process": itscale.ODE(),
        "solver": "ddim",
        "steps": STEPS,
        "seed": 1,
        "tilt": 0.0,
        **settings,
    }
    return itscale.sample(MODEL, reward=above, method=method, groups=groups, **settings)


@pytest.fixture(scope="module")
def scale() -> float:
    """Deviation of what the sampler makes of normal noise: it is linear here."""
    noise = torch.ones(1, 1, 1)
    made = itscale.sample(MODEL, process=itscale.ODE(), solver="ddim", steps=STEPS, initial=noise)
    return float(made.samples)


@pytest.mark.parametrize("cap", [1000, 14, 7])
def test_share_of_what_is_alive_is_unbiased_with_and_without_a_cap(cap, scale):
    """At 14 trials some groups are capped, at 7 most. ``N/T`` would be 6 standard errors off or more."""
    share = 0.5 * math.erfc(BAR / scale / math.sqrt(2))
    z = run(Alive(particles=4, max_trials=cap)).log_evidence.exp()
    alive = torch.tensor(run(Alive(particles=4, max_trials=cap), groups=200).notes["alive"])
    capped = float((alive < 5).double().mean())
    assert {1000: capped == 0, 14: 0.1 < capped < 0.9, 7: capped > 0.9}[cap]
    assert abs(float(z.mean()) - share) < 4.89 * float(z.std()) / math.sqrt(GROUPS)


@pytest.mark.parametrize("cap", [1000, 10])
def test_sums_over_kept_samples_are_unbiased_for_the_tilted_law(cap, scale):
    """``Z E[x exp(x/2); x > 0.5]`` by quadrature on the law of the sampler."""
    result = run(Alive(particles=4, max_trials=cap), tilt=0.5)
    x = result.samples[..., 0].double()
    weights = result.log_weights.exp()
    found = result.log_evidence.exp() * (result.weights.nan_to_num() * x).sum(1)
    grid = torch.linspace(BAR, 8, 100_001, dtype=torch.float64)
    density = torch.exp(-((grid / scale) ** 2) / 2) / (scale * math.sqrt(2 * math.pi))
    exact = float(torch.trapezoid(density * grid * torch.exp(grid / 2), grid))
    assert abs(float(found.mean()) - exact) < 4.89 * float(found.std()) / math.sqrt(GROUPS)
    assert ((x > BAR) | (weights == 0)).all()


def test_kept_samples_do_not_depend_on_the_size_of_rounds():
    results = [run(Alive(particles=3, batch=batch), groups=20) for batch in (1, 2, 7, None)]
    for result in results[1:]:
        assert torch.equal(result.samples, results[0].samples)
        assert torch.equal(result.log_evidence, results[0].log_evidence)
        assert result.notes["trials"] == results[0].notes["trials"]


def test_each_group_pays_for_its_own_rounds_and_no_more_than_planned():
    result = run(Alive(particles=3, batch=2), groups=40)
    spent = torch.tensor(result.spent.reward_calls)
    before = torch.tensor(result.notes["trials"])  # those before the last one that counted
    assert (spent == 2 * (before // 2 + 1)).all()
    assert result.spent.nfe == (STEPS * spent).tolist()
    assert len(set(spent.tolist())) > 3
    with pytest.raises(BudgetError, match=r"at least 4 max_trials need nfe = 16 and budget\.nfe is 15"):
        run(Alive(particles=3), budget=Budget(nfe=15))
    assert max(run(Alive(particles=3), groups=40, budget=Budget(reward_calls=6)).spent.reward_calls) == 6


def test_a_group_without_any_alive_has_no_evidence_and_the_others_go_on():
    @itscale.reward(name="second-group", modality="vector")
    def second(vectors, conditions=None):
        return torch.where(torch.as_tensor(conditions) > 0, 0.0, -torch.inf)

    result = itscale.sample(
        wrapped(Network()),
        reward=second,
        method=Alive(particles=3, max_trials=6),
        steps=STEPS,
        condition=[0.0, 1.0],
        groups=2,
    )
    assert result.spent.reward_calls == [6, 4]
    assert float(result.log_evidence[1]) == pytest.approx(0.0)
    assert float(result.log_evidence[0]) == -math.inf


def test_a_reward_without_a_score_for_anything_is_an_error():
    def broken(vectors):
        return vectors[:, 0] * math.nan

    with pytest.raises(RewardError, match="no valid score for any of 12 samples"):
        itscale.sample(MODEL, reward=broken, method=Alive(particles=3, max_trials=6), steps=STEPS, groups=2)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="max_trials must be at least 4, got 3"):
        run(Alive(particles=3, max_trials=3))
    with pytest.raises(ConfigError, match="batch must be a whole number >= 1, got 0"):
        Alive(batch=0)
    with pytest.raises(ConfigError, match="leave initial out"):
        run(Alive(particles=3), groups=1, initial=torch.zeros(1, 3, 1))
    mixture = GaussianMixture([1.0], [[0.0]], [1.0])
    with pytest.raises(ConfigError, match="use 'fkc'"):
        itscale.sample(mixture**2, reward=above, method=Alive(particles=3), steps=STEPS)


def test_masked_models_are_drawn_until_they_satisfy_too():
    def starts_with_a(sequences):
        return torch.tensor([0.0 if text.startswith("A") else -math.inf for text in sequences])

    reward = itscale.reward(name="starts", modality="sequence")(starts_with_a)
    result = itscale.sample(itscale.load("dna"), reward=reward, method=Alive(particles=4), steps=4, seed=0)
    assert (
        all(text.startswith("A") for text in result.samples[0]) if isinstance(result.samples, list) else True
    )
    assert result.rewards.tolist() == [[0.0] * 4]
    assert 0.02 < float(result.log_evidence.exp()[0]) < 0.9


def test_drawing_goes_on_where_it_was_interrupted(tmp_path):
    whole = run(Alive(particles=3, batch=2), groups=6)

    class Unplugged(Exception):
        pass

    for after in (2, 7, 11):
        seen = []

        def unplug(step, seen=seen, after=after):
            seen.append(step)
            if len(seen) == after:
                raise Unplugged

        file = tmp_path / f"{after}.pt"
        with pytest.raises(Unplugged):
            run(Alive(particles=3, batch=2), groups=6, checkpoint=file, on_step=unplug)
        again = run(Alive(particles=3, batch=2), groups=6, checkpoint=file)
        assert torch.equal(again.samples, whole.samples)
        assert again.spent.reward_calls == whole.spent.reward_calls


def test_counting_reward_is_asked_once_a_trial():
    network, counting = Network(), CountingReward()
    result = itscale.sample(
        wrapped(network), reward=smooth(counting), method=Alive(particles=5), steps=STEPS, condition=1.0
    )
    assert counting.samples == sum(result.spent.reward_calls) == 6
    assert network.rows == 6 * STEPS
