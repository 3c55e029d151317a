"""Learned values against conditional means and soft values of one Gaussian; what they cost; their files."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import SMC, NestedSMC
from itscale.process import SDE, ContinuousProcess
from itscale.sampling.value_fitting import soft_loss
from itscale.values import Learned
from tests.contracts.methods import MEAN, STD, check_claim, reward, same
from tests.engine.setting import CountingReward, Network, total, wrapped
from tests.solvers.drive import gaussian
from tests.values.test_exact import sight

TIMES = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Fitted means, and soft values of tilt 1.5, of the reward x on N(0.3, 0.8^2)."""
    folder = tmp_path_factory.mktemp("values")
    return {
        tilt: itscale.fit_value(
            gaussian(MEAN, STD),
            reward,
            folder / f"{tilt}.pt",
            samples=4000,
            tilt=tilt,
            updates=700,
            width=48,
            steps=10,
        )
        for tilt in (0.0, 1.5)
    }


def forecast(value, interpolant, level):
    """States of the law at a level, forecasts there, exact means and posterior variance."""
    process = ContinuousProcess.of(gaussian(MEAN, STD), SDE(interpolant=interpolant))
    alpha, sigma = (float(f(TIMES[level])) for f in (process.interpolant.alpha, process.interpolant.sigma))
    z = torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
    x = alpha * MEAN + math.hypot(alpha * STD, sigma) * z
    found = value.build(process, TIMES)(sight_with_call(process, x, level))
    exact = process.evaluate(x, TIMES[level]).denoised[:, 0]
    return found.double(), exact, (STD * sigma) ** 2 / ((alpha * STD) ** 2 + sigma**2)


def sight_with_call(process, x, level):
    return sight(process, TIMES, x, level)


@pytest.mark.parametrize("interpolant", [None, "vp"])
@pytest.mark.parametrize("level", [0, 2, 4])
def test_without_a_tilt_it_learns_the_mean_of_what_will_come(fitted, interpolant, level):
    """4000 samples of deviation 0.8 know a regression line to 0.03 in the middle and 0.06 at two sigmas."""
    found, exact, _ = forecast(fitted[0.0], interpolant, level)
    assert float((found - exact).abs().max()) <= 0.2
    assert float((found - exact).square().mean().sqrt()) <= 0.1


@pytest.mark.parametrize("level", [0, 2, 4])
def test_with_a_tilt_it_learns_the_soft_value(fitted, level):
    """The soft value of a linear reward is the mean plus tilt / 2 times the posterior variance."""
    found, exact, variance = forecast(fitted[1.5], None, level)
    soft = exact + 1.5 * variance / 2
    assert float((found - soft).square().mean().sqrt()) <= 0.12
    if level < 2:
        assert float((found - exact).mean()) > 0.25  # and not the mean


def test_the_loss_has_its_minimum_at_the_soft_value_and_tends_to_the_square():
    rewards = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = torch.linspace(-1, 2, 3001, dtype=torch.float64)
    for tilt in (0.5, 1.5):
        losses = soft_loss(rewards[:, None] - values, tilt).mean(0)
        expected = math.log(float((tilt * rewards).exp().mean())) / tilt
        assert float(values[losses.argmin()]) == pytest.approx(expected, abs=2e-3)
    off = torch.linspace(-2, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(soft_loss(off, 2e-3), off.square(), rtol=2e-3, atol=1e-9)
    assert soft_loss(torch.tensor([1e6], dtype=torch.float64), 1.0).isfinite()


def test_early_scores_cost_no_look_and_no_reward_call(fitted):
    counting = CountingReward()
    result = itscale.sample(
        gaussian(MEAN, STD),
        reward=itscale.scoring.Reward.of(lambda vectors: counting(vectors), name="x"),
        value=fitted[0.0],
        method=NestedSMC(particles=4, children=3),
        steps=8,
    )
    assert counting.samples == sum(result.spent.reward_calls) == 4 * 3
    assert result.spent.decodes == [4 * 3]
    assert result.spent.nfe == [4 * (1 + 6 + 3)]  # the children of the last look alone are looked at


@pytest.mark.parametrize("method", [SMC(particles=32), NestedSMC(particles=8, children=4)], ids=repr)
def test_methods_keep_their_claims(fitted, method):
    check_claim(method, value=fitted[1.5])


def test_a_learned_value_leaves_less_to_chance_than_none(fitted):
    """Against SMC that scores the last look alone: importance sampling."""

    def spread(**settings):
        found = itscale.sample(
            gaussian(MEAN, STD), reward=reward, steps=8, tilt=2.0, groups=200, seed=3, **settings
        )
        return float(found.log_evidence.std())

    blind = spread(method=SMC(particles=16, score_window=(7, 7)))
    assert spread(method=SMC(particles=16), value=fitted[0.0]) < 0.9 * blind


def test_groups_give_equal_bits_together_and_alone_for_conditional_images(tmp_path):
    event = (1, 6, 6)
    value = itscale.fit_value(
        wrapped(Network(event), event),
        total,
        tmp_path / "value.pt",
        condition=[0.0, 1.0],
        groups=2,
        samples=40,
        updates=5,
        width=16,
        steps=4,
    )

    def draw(groups):
        return itscale.sample(
            wrapped(Network(event), event),
            reward=total,
            value=value,
            method=SMC(particles=5),
            steps=6,
            groups=groups,
            condition=[float(g) for g in groups],
            pool=itscale.pools.Local(microbatch=8, bitwise=True),
        )

    together, alone = draw([0, 3, 5]), draw([3])
    for name in ("samples", "log_weights", "log_evidence"):
        assert same(getattr(together, name)[1:2], getattr(alone, name))


def test_fits_are_reproducible_and_say_what_they_explain(fitted, tmp_path):
    settings = {"samples": 60, "updates": 5, "width": 16, "steps": 4}
    first, second = (
        itscale.fit_value(gaussian(MEAN, STD), reward, tmp_path / f"{i}.pt", **settings) for i in range(2)
    )
    a, b = (torch.load(v.path, weights_only=True)["state"] for v in (first, second))
    assert all(torch.equal(a[key], b[key]) for key in a)
    facts = fitted[0.0].facts
    assert facts["reward"] == "first"
    # the exact share is (alpha std)^2 / ((alpha std)^2 + sigma^2): 0.39 at t = 0.5, 0.98 at 0.9
    assert facts["explained"]["0.5"] == pytest.approx(0.39, abs=0.08)
    assert facts["explained"]["0.9"] > 0.95


def test_files_are_checked(fitted, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Learned(str(tmp_path / "none.pt"))
    other = tmp_path / "other.pt"
    other.write_text("notes")
    with pytest.raises(ConfigError, match="holds no learned value"):
        Learned(str(other))
    with pytest.raises(ConfigError, match="is another file than it was"):
        Learned(fitted[0.0].path, digest="0" * 16)
    with pytest.raises(ConfigError, match=r"is for states of shape \(1,\)"):
        itscale.sample(wrapped(Network()), reward=total, value=fitted[0.0], steps=4)
    with pytest.raises(ConfigError, match="do not vary"):
        itscale.fit_value(
            gaussian(), lambda vectors: 0 * vectors[:, 0], tmp_path / "x.pt", samples=20, steps=2
        )
    with pytest.raises(ConfigError, match="10 samples and more, got 4"):
        itscale.fit_value(gaussian(), reward, tmp_path / "x.pt", samples=4)
    with pytest.raises(ConfigError, match="tilt of a learned value must be finite"):
        itscale.fit_value(gaussian(), reward, tmp_path / "x.pt", tilt=-1.0)


def test_labels_that_were_not_fitted_are_named():
    from itscale.networks.value_network import ValueNetwork

    network = ValueNetwork((2,), labels=3, width=16)
    x, t = torch.zeros(2, 2), torch.zeros(2)
    with pytest.raises(ConfigError, match="fitted for labels below 3, got 7"):
        network(x, t, torch.tensor([1, 7]))
    assert network(x, t, torch.tensor([1, 2])).shape == (2,)
