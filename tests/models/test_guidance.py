"""Guidance beyond its weight: against an independent implementation, and to the last network row."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import itscale
from itscale import interpolants
from itscale.errors import BudgetError, ConfigError
from itscale.models import Guidance
from itscale.scoring import Reward
from tests.engine.setting import METHODS, Network, total, wrapped

T = torch.tensor(0.4, dtype=torch.float64)
STEPS = 6


@pytest.fixture
def states():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def halves(model, x, t):
    """The unconditional output and the conditional one."""
    return tuple(model.predict(x, t, model.encode([c] * len(x))) for c in (None, 2))


@pytest.mark.parametrize("t", [T, torch.linspace(0.1, 0.9, 5, dtype=torch.float64)], ids=["one", "per row"])
@pytest.mark.parametrize("kind", ["velocity", "noise", "denoised", "v"])
def test_projection_is_that_of_another_implementation_on_denoised_samples(states, t, kind):
    from diffusers.guiders.adaptive_projected_guidance import normalized_guidance

    path = interpolants.VP() if kind == "v" else interpolants.Linear()
    c = interpolants.coefficients(path, t)
    raw = [torch.randn(5, 3, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    d = [interpolants.denoised(kind, r, states, c) for r in raw]
    rule = Guidance(weight=4.0, parallel=0.3, norm=1.5)
    mine = interpolants.denoised(kind, rule.combined(*raw, states, kind, c), states, c)
    theirs = normalized_guidance(d[1], d[0], 3.0, None, 0.3, 1.5, use_original_formulation=True)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_rescaling_keeps_the_conditional_spread(states):
    model = wrapped(Network())
    _, conditional = halves(model, states, T)
    whole = model.given(2, Guidance(weight=3.0, rescale=1.0)).predict(states, T, None)
    torch.testing.assert_close(whole.std(1), conditional.std(1))
    plain = model.given(2, 3.0).predict(states, T, None)
    part = model.given(2, Guidance(weight=3.0, rescale=0.7)).predict(states, T, None)
    torch.testing.assert_close(part, 0.7 * whole + 0.3 * plain)


def test_nothing_set_is_the_weight(states):
    model = wrapped(Network())
    plain, rule = (model.given(2, g).predict(states, T, None) for g in (3.0, Guidance(weight=3.0)))
    assert torch.equal(plain, rule)


def test_halves_may_be_asked_one_after_the_other(states):
    network, sizes = Network(), []
    network.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    model = wrapped(network)
    whole, split = (
        model.given(2, g).predict(states, T, None) for g in (3.0, Guidance(weight=3.0, split=True))
    )
    assert sizes == [10, 5, 5]
    torch.testing.assert_close(whole, split)


def test_outside_the_interval_the_conditional_model_is_asked_alone(states):
    network = Network()
    model = wrapped(network)
    guided = model.given(2, Guidance(weight=3.0, interval=(0.5, 2.0)))
    full = model.given(2, 3.0)
    t = torch.tensor([0.1, 0.4, 0.5, 0.6, 0.9], dtype=torch.float64)  # sigma/alpha 9, 1.5, 1, 0.67, 0.11
    network.rows = 0
    found = guided.predict(states, t, None)
    assert network.rows == 5 + 3
    _, conditional = halves(model, states, t)
    inside = torch.tensor([False, True, True, True, False])[:, None]
    expected = torch.where(inside, full.predict(states, t, None), conditional)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for time in t:
        network.rows = 0
        guided.predict(states, time, None)
        assert network.rows == 5 * guided.rows_at(time)
    edge = model.given(2, Guidance(weight=3.0, interval=(None, 1.0)))
    assert edge.rows_at(torch.tensor(0.5, dtype=torch.float64)) == 2  # the upper bound belongs to it
    assert model.given(2, Guidance(weight=3.0, interval=(1.0, None))).rows_at(t[2]) == 1


RUNS = [
    *((name, None) for name in ("smc", "nested", "svdd", "smc, late", "beam", "rbf", "dts", "tds", "cts")),
    ("unguided", "heun"),
    ("best-of-n", "rk4"),
]


def limited(low: float, high: float, **settings):
    """A run with guidance at some noise levels alone, and the network that it asked."""
    network = Network()
    result = itscale.sample(
        wrapped(network),
        condition=2,
        guidance=Guidance(weight=3.0, interval=(low, high)),
        steps=STEPS,
        **settings,
    )
    return result, network


@pytest.mark.parametrize(("name", "solver"), RUNS)
def test_the_ledger_counts_every_row(name, solver):
    reward = Reward.of(total, name="sum", differentiable=True)
    result, network = limited(
        0.3, 3.0, reward=reward, method=METHODS[name], solver=solver, groups=2, tilt=0.5
    )
    assert network.rows == sum(result.spent.model_rows) < 2 * sum(result.spent.nfe)


@pytest.mark.parametrize("method", ["unguided", "smc", "svdd", "cts"])
def test_a_budget_of_rows_buys_what_the_unguided_steps_save(method):
    rows, settings = 400, {} if method == "unguided" else {"reward": total, "tilt": 0.5}
    if method == "cts":
        settings = {**settings, "method": METHODS["cts"]}
        settings["method"] = replace(settings["method"], particles=None)
    settings = {"method": method, **settings, "budget": itscale.Budget(model_rows=rows)}
    some, network = limited(0.3, 1.0, **settings)
    every, _ = limited(0.0, math.inf, **settings)
    assert some.samples.shape[1] > every.samples.shape[1]
    assert network.rows == sum(some.spent.model_rows) <= rows
    one_more = {**settings, "n": some.samples.shape[1] + 1}
    if method == "cts":
        one_more = {**one_more, "method": replace(settings["method"], particles=None)}
    with pytest.raises(BudgetError, match="model_rows"):
        limited(0.3, 1.0, **one_more)


def test_experts_of_a_composition_refuse_an_interval():
    model = wrapped(Network())
    expert = model.given(2, Guidance(weight=3.0, interval=(0.3, 3.0)))
    with pytest.raises(ConfigError, match="interval"):
        itscale.sample(expert * model.given(1), particles=4, steps=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0}, "finite number >= 0"),
        ({"weight": 3.0, "rescale": 1.5}, "guidance.rescale must be a number between 0 and 1, got 1.5"),
        ({"weight": 3.0, "parallel": -1}, "guidance.parallel"),
        ({"weight": 3.0, "norm": 0}, "guidance.norm"),
        ({"weight": 3.0, "interval": (2.0, 1.0)}, "low < high"),
        ({"weight": 3.0, "interval": (2.0,)}, "two noise-to-signal ratios"),
        ({"weight": 0.0, "rescale": 0.5}, "guidance.weight is 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Guidance(**settings)


def test_a_configuration_names_what_is_wrong():
    from itscale.runs.rooms import ModelSetting

    setting = ModelSetting.read({"name": "digits", "guidance": {"weight": 3, "interval": [0.3, 3.0]}})
    assert setting.guidance == Guidance(weight=3, interval=(0.3, 3.0))
    with pytest.raises(ConfigError, match=r"model\.guidance\.norm must be"):
        ModelSetting.read({"name": "digits", "guidance": {"weight": 3, "norm": -1}})
    with pytest.raises(ConfigError, match=r"model\.guidance is .*interval, rescale"):
        ModelSetting.read({"name": "digits", "guidance": {"weight": 3, "intervall": [0, 1]}})
