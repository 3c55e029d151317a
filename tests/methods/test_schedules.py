"""Numbers of particles over time: what they add up to, what they cost, and that they bias nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError, UnknownName
from itscale.methods import SMC, SVDD, Funnel, NestedSMC, TwistedSMC, VASRMax
from itscale.methods.rollover import Saving
from itscale.methods.schedules import Line, get_schedule, sizes_of
from tests.contracts.methods import STEPS, TILT, Z, reward, run, tilted_truth
from tests.engine.setting import CountingReward, Network, make_engine, wrapped
from tests.solvers.drive import gaussian


def test_named_schedules_share_out_the_looks_of_equal_numbers():
    assert sizes_of(get_schedule("flat"), 16, 10) == (16,) * 10
    funnel, late = (sizes_of(get_schedule(name), 16, 10) for name in ("funnel", "late"))
    assert sum(funnel) == sum(late) == 160
    assert funnel[0] == 25
    assert late[-1] >= 25
    assert list(funnel[:-1]) == sorted(funnel[:-1], reverse=True)
    assert list(late) == sorted(late)
    assert sizes_of(get_schedule((1.0, 3.0, 2.0)), 8, 3) == (4, 12, 8)
    assert sizes_of(Line(2.0, 1.0), 12, 4) == (16, 13, 10, 9)
    assert Line(1.0, 5.0)(1) == (1.0,)


@pytest.mark.parametrize(
    "method",
    [
        SMC(particles=12, schedule="funnel"),
        SMC(particles=12, schedule="late", score_every=3),
        SMC(particles=12, schedule=(2.0, 0.5, 0.4, 3.0, 1.0, 0.5, 1.5, 0.4), scheme="ssp"),
        NestedSMC(particles=8, children=3, schedule="late"),
        NestedSMC(particles=8, children=3, schedule=Line(2.0, 0.5), score_window=(2, 6), score_every=2),
        Funnel(particles=12),
        Funnel(particles=12, schedule="late", ess_threshold=0.9),
    ],
    ids=repr,
)
def test_they_leave_the_evidence_unbiased(method):
    """4000 runs, whose evidence has a relative standard deviation of 0.5 to 2: a bias of a tenth is seen."""
    result = run(method, groups=4000)
    core = method if isinstance(method, NestedSMC) else method.core()
    sizes = sizes_of(get_schedule(core.schedule), method.particles, STEPS)
    assert [row["particles"] for row in result.trace] == [*sizes, sizes[-1]]
    check_unbiased(result.log_evidence)


def check_unbiased(log_evidence: torch.Tensor) -> None:
    ratio = (log_evidence - tilted_truth()[1]).exp()
    assert abs(float(ratio.mean()) - 1) <= Z * float(ratio.std()) / math.sqrt(len(ratio))


ROLLING = SMC(particles=10, schedule="rollover")


def rolled(groups: list[int], method: Any = ROLLING, **settings: Any) -> itscale.Result:
    return itscale.sample(
        wrapped(Network()), reward=CountingReward(), method=method, steps=STEPS, groups=groups, **settings
    )


def test_a_rollover_follows_the_weights_before_each_move_and_spends_everything():
    for group in range(4):
        result = rolled([group], tilt=2.0)
        sizes = [row["particles"] for row in result.trace][:-1]
        left = 10
        for level in range(STEPS - 1):
            left += 10 - sizes[level]
            wanted = math.ceil(10 * (0.5 + 1.5 * (1 - float(result.ess[level]) / sizes[level])))
            expected = left if level + 2 == STEPS else max(4, min(wanted, left))
            assert sizes[level + 1] == expected
        assert result.spent.nfe == result.spent.reward_calls == [10 * STEPS]
    even = rolled([0], tilt=0.0)
    last = 10 + 5 * (STEPS - 2)
    assert [row["particles"] for row in even.trace] == [10, *[5] * (STEPS - 2), last, last]


@pytest.mark.slow
def test_a_rollover_leaves_the_evidence_unbiased():
    """600 runs of one group, through one engine: the weights of a group decide on its own numbers.

    The relative standard deviation of the evidence is about 1, so a bias of 0.2 is seen.
    """
    method, settings = (
        SMC(particles=8, schedule="rollover"),
        {"process": itscale.SDE(), "solver": "ancestral"},
    )
    engine = make_engine(
        gaussian(0.3, 0.8), reward, steps=STEPS, groups=1, tilt=TILT, method=method, **settings
    )
    plan = itscale.preparation.prepare(
        gaussian(0.3, 0.8), reward=reward, method=method, steps=STEPS, **settings
    ).plan
    found, numbers = [], set()
    for group in range(600):
        engine.group_ids = torch.tensor([group])
        engine._last_place = None
        state = method.init(engine, plan)
        while not state.is_done:
            state = method.step(engine, state)
        p = state.particles
        numbers.add(state.sizes)
        found.append(p.log_evidence + torch.logsumexp(p.log_weights, 1) - math.log(p.n))
    assert len(numbers) > 100
    check_unbiased(torch.cat(found))


def test_selecting_more_sharply_than_the_weights_ask_for_overshoots():
    """It is a search: its mean is above that of the tilted law, which plain resampling reaches."""
    mean, _ = tilted_truth()
    errors = {}
    for method in (VASRMax(particles=64, ess_threshold=0.9), VASRMax(particles=64, power=4.0)):
        found = run(method, groups=400).rewards.mean(1)
        errors[method] = (float(found.mean()) - mean, float(found.std()) / 20)
        assert errors[method][0] > Z * errors[method][1]


def test_a_power_of_one_in_the_limit_selects_as_the_weights_ask_for():
    nearly = VASRMax(particles=16, power=1 + 1e-12, ess_threshold=0.7)
    same = run(nearly, groups=50), run(SMC(particles=16, ess_threshold=0.7), groups=50)
    torch.testing.assert_close(same[0].samples, same[1].samples, rtol=1e-6, atol=1e-6)
    assert (same[0].log_weights == 0).all()


def test_groups_that_are_not_resampled_keep_their_weights_as_they_are():
    seen = []
    run(VASRMax(particles=8, ess_threshold=0.0), groups=3, on_step=lambda step: seen.append(step.particles))
    for p in seen[:-1]:
        torch.testing.assert_close(p.log_weights, p.value, rtol=0, atol=1e-9)


def test_what_cannot_work_is_refused():
    with pytest.raises(UnknownName, match=r"unknown schedule 'funel'.*Did you mean 'funnel'"):
        SMC(schedule="funel")
    with pytest.raises(ConfigError, match="relative numbers of particles > 0"):
        SMC(schedule=(1.0, 0.0))
    with pytest.raises(ConfigError, match="relative numbers of particles > 0"):
        Line(1.0, -1.0)
    with pytest.raises(ConfigError, match="schedule has 2 entries for 8 steps"):
        run(SMC(schedule=(1.0, 2.0)), groups=1)
    with pytest.raises(ConfigError, match="schedule must be one of flat, funnel, late, rollover, numbers"):
        SMC(schedule=3)
    with pytest.raises(ConfigError, match="correct=False drops weights"):
        NestedSMC(schedule="late", correct=False)
    with pytest.raises(ConfigError, match="0 < least <= 1 <= most"):
        Saving(least=0.0)
    for settings in ({"children": 2}, {"score_every": 2}, {"score_window": (1, 2)}):
        with pytest.raises(ConfigError, match="children=1, score_every=1 and no score_window"):
            NestedSMC(schedule="rollover", **settings)
    with pytest.raises(ConfigError, match="for SMC alone"):
        TwistedSMC(schedule="rollover")
    with pytest.raises(ConfigError, match="one evaluation a step"):
        rolled([0], solver="sde-heun")
    with pytest.raises(ConfigError, match="got 2 groups: run them one at a time"):
        rolled([0, 1])
    with pytest.raises(ConfigError, match=r"power must be in \(1, 100\], got 1.0: 1 is method='smc'"):
        VASRMax(power=1.0)
    with pytest.raises(
        BudgetError, match=r"at least 4 particles need nfe = 36 and budget.nfe is 31; lower steps"
    ):
        run(SMC(schedule="funnel"), groups=1, budget=itscale.Budget(nfe=31))
    with pytest.raises(TypeError):
        SVDD(schedule="late")
