"""What no method accepts: refused before any network call, with the field, its value and what to do."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import Alive, Plan, ReNO, ZeroOrderSearch
from itscale.methods.noise_ascent import NoiseAscent
from itscale.preparation import prepare
from itscale.scoring import as_reward
from tests.engine.setting import METHODS, CountingReward, Network, smooth, wrapped

STEPS = 6
COUNTS = ("particles", "children", "sweeps", "neighbours", "rounds", "initial", "min_draws", "draws", "block")


def planned(method: Any, budget: itscale.Budget | None, reward: Any = None) -> Plan:
    """Plan a run, and see that planning touches neither network nor reward."""
    network, counting = Network(), CountingReward()
    try:
        return prepare(
            wrapped(network),
            reward=reward or smooth(counting),
            method=method,
            steps=STEPS,
            process=itscale.ODE() if isinstance(method, ZeroOrderSearch | ReNO) else itscale.SDE(),
            budget=budget,
        ).plan
    finally:
        assert network.rows == counting.samples == 0


@pytest.mark.parametrize("unit", ["nfe", "model_rows", "reward_calls"])
@pytest.mark.parametrize("name", METHODS)
def test_a_budget_too_small_names_the_least_and_what_to_lower(name, unit):
    method = METHODS[name]
    flexible = replace(method, rounds=None) if name == "zero-order" else replace(method, particles=None)
    if isinstance(method, NoiseAscent):
        flexible = replace(flexible, iterations=None)
    if isinstance(method, Alive):  # a budget buys trials, of which it needs one more than particles
        flexible = replace(method, max_trials=None)
    scores_once = name in ("unguided", "best-of-n", "importance") or name.startswith(("dts", "reno", "dno"))
    if unit == "reward_calls" and scores_once:
        assert planned(flexible, itscale.Budget(reward_calls=1)).particles == 1
        return
    with pytest.raises(BudgetError, match=r"too small.*lower .*steps") as caught:
        planned(flexible, itscale.Budget(**{unit: 1}))
    found = re.search(r"(?:need \w+ =|needs at least) (\d+)", str(caught.value))
    assert found
    least = int(found[1])
    assert planned(flexible, itscale.Budget(**{unit: least})).particles >= 1
    with pytest.raises(BudgetError):
        planned(flexible, itscale.Budget(**{unit: least - 1}))


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_too_small_for_the_particles_asked_for_says_so(name):
    method = METHODS[name]
    plan = planned(method, None)
    assert planned(method, itscale.Budget(nfe=plan.nfe)).nfe <= plan.nfe
    if "rbf" in name or "verifier" in name:
        return  # which spend what they get
    with pytest.raises(BudgetError, match=rf"need nfe = {plan.nfe} and budget.nfe is {plan.nfe - 1}: lower "):
        planned(method, itscale.Budget(nfe=plan.nfe - 1))


@pytest.mark.parametrize("name", METHODS)
def test_counts_of_zero_are_refused_by_name(name):
    method = METHODS[name]
    held = [f.name for f in fields(method) if f.name in COUNTS]
    assert "particles" in held
    for count in held:
        for bad in (0, -1, 1.5, True):
            with pytest.raises(ConfigError, match=rf"{count} must be a whole number >= [12], got {bad}"):
                replace(method, **{count: bad})


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_need_a_gradient_refuse_a_black_box(name):
    method = METHODS[name]
    black_box = as_reward(itscale.reward(name="black box", modality="latent")(lambda latents: latents.sum(1)))
    if not method.needs.gradient:
        assert planned(method, None, black_box).particles
        return
    with pytest.raises(ConfigError, match="needs the reward's gradient, and 'black box' has none"):
        planned(method, None, black_box)
