"""Every rule on both sides of its threshold."""

from __future__ import annotations

import math

import pytest
import torch

from itscale.advice import rules
from itscale.advice.rules import Scoring
from tests.advice.settings import hand_made

ABOVE, BELOW = 1 + 1e-6, 1 - 1e-6


def paying(nfe: int):
    """Particles of a method that costs one evaluation a step."""
    return lambda steps: nfe // steps


@pytest.mark.parametrize(
    ("nfe", "wanted", "steps"),
    [
        (50 * rules.MANY, 50, 50),  # enough particles
        (50 * rules.MANY - 1, 50, 49),  # one too few: the most steps that leave enough
        (800, 50, 32),
        (100, 50, 12),  # 5 particles at 20 steps: down to 8 particles
        (rules.MANY * rules.LONG - 1, 50, 20),  # 24 particles at 20 steps, which is few enough steps
        (rules.FEW * rules.LONG, 20, 20),
        (rules.FEW * rules.LONG - 1, 20, 19),
        (60, 50, rules.SHORT),
        (60, 5, 5),  # never more steps than asked for
    ],
)
def test_steps(nfe, wanted, steps):
    found = rules.steps_for(paying(nfe), wanted)
    assert found.value == steps
    assert f"{nfe // steps} particle" in found.reason
    assert (f"{wanted} steps would" in found.reason) == (steps != wanted)


def test_a_search_is_sharp_and_the_rest_mild():
    assert rules.tilt_by_spread(0.5, "sample").value == rules.SPREAD / 0.5
    assert rules.tilt_by_spread(0.5, "evidence").value == rules.SPREAD / 0.5
    assert rules.tilt_by_spread(0.5, "search").value == rules.SHARP / 0.5


def test_wanted_mean_is_reached_needless_or_out_of_reach():
    coin = torch.tensor([0.0] * 64 + [1.0] * 64, dtype=torch.float64)
    pilot = hand_made(torch.stack([coin, coin], 1))
    assert rules.tilt_by_mean(pilot, 0.8).value == pytest.approx(math.log(4), rel=1e-9)
    assert rules.tilt_by_mean(pilot, 0.5).value == 0
    assert rules.tilt_by_mean(pilot, 0.5 + 1e-9).value > 0
    ladder = torch.arange(64, dtype=torch.float64)
    steep = rules.tilt_by_mean(hand_made(torch.stack([ladder, ladder], 1)), 63.5)
    assert "beyond what 64 unguided samples can judge" in steep.reason
    assert "10 of them still count" in steep.reason


@pytest.mark.parametrize(("factor", "known"), [(ABOVE, True), (BELOW, False)])
def test_rewards_known_early(factor, known):
    found = rules.known_early(rules.KNOWN * factor, 0.01)
    assert found.value is known
    assert ("not above" in found.reason) == (not known)
    assert "0.90 ± 0.01" in found.reason


@pytest.mark.parametrize(("factor", "blind"), [(BELOW, True), (ABOVE, False)])
def test_rewards_that_say_nothing_early(factor, blind):
    assert rules.says_nothing_early(rules.BLIND * factor).value is blind


@pytest.mark.parametrize(
    ("goal", "particles", "few"),
    [
        ("search", rules.FEW - 1, True),
        ("search", rules.FEW, False),
        ("sample", rules.FEW - 1, False),
        ("evidence", rules.FEW - 1, False),
    ],
)
def test_single_chain(goal, particles, few):
    found = rules.single_chain(particles, goal)
    assert found.value is few
    assert bool(found.reason) == (particles < rules.FEW)


@pytest.mark.parametrize(
    ("correlation", "goal", "particles", "schedule"),
    [
        (rules.DECIDED * BELOW, "sample", 25, "half"),
        (rules.DECIDED * ABOVE, "sample", 25, "flat"),
        (rules.DECIDED * ABOVE, "evidence", 25, "half"),
        (rules.DECIDED * BELOW, "search", 25, "flat"),
        (rules.BLIND * BELOW, "search", 25, "half"),
        (rules.BLIND * ABOVE, "search", 25, "flat"),
        (rules.DECIDED * BELOW, "sample", rules.FEW, "half"),
        (rules.DECIDED * BELOW, "evidence", rules.FEW - 1, "flat"),
    ],
)
def test_schedule(correlation, goal, particles, schedule):
    assert rules.schedule_for(correlation, goal, particles).value == schedule


@pytest.mark.parametrize(
    ("gradient", "particles", "drift"),
    [
        (True, 25, "denoised"),
        (True, 2, "denoised"),
        (False, rules.FEW, "population"),
        (False, rules.FEW - 1, "none"),
    ],
)
def test_drift(gradient, particles, drift):
    assert rules.drift_for(gradient, particles).value == drift


LINE = [k / 19 for k in range(20)]


@pytest.mark.parametrize(
    ("rows", "correlation", "spread", "scoring"),
    [
        (rules.EXPENSIVE * BELOW, LINE, 2.0, Scoring(1, None)),
        # 1 / 2^2: three more gains of a quarter after 1/19 at level 1; 18 levels in three parts
        (rules.EXPENSIVE * ABOVE, LINE, 2.0, Scoring(6, (1, 18))),
        # 1 / 16^2 is below the least gain of 0.05: 18 gains
        (100.0, LINE, 16.0, Scoring(1, (1, 18))),
        # nothing before level 10, all of it at once: what is left after it is scored at the end
        (100.0, [0.0] * 10 + [0.96] * 9 + [1.0], 2.0, Scoring(1, (19, 19))),
        (100.0, [0.0] * 10 + [0.5] * 9 + [1.0], 2.0, Scoring(5, (10, 18))),
    ],
)
def test_expensive_rewards_are_scored_where_they_tell(rows, correlation, spread, scoring):
    assert rules.scoring_for(rows, correlation, spread).value == scoring


@pytest.mark.parametrize("spread", [1.0, 1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("rows", [5.0, 20.0, 1e6])
def test_interval_is_near_the_best_there_is(spread, rows):
    """Variance times time with m equal gains of squared correlation, 20 steps, against the best m."""

    def cost(m):
        return m * math.expm1(spread**2 / m) * (20 + rows * m)

    gain = max(rules.LEAST_GAIN, 1 / spread**2)
    assert cost(max(1, math.floor(1 / gain))) < 1.115 * min(cost(m) for m in range(1, 21))
