"""Runs that end early: every method stops at once, hands over the best it has, and claims nothing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import itscale
from itscale.budget import Ledger
from itscale.engine import Step
from itscale.errors import ConfigError
from itscale.methods import (
    SMC,
    BestOfN,
    CoDe,
    ImportanceSampling,
    ParticleGibbs,
    PathSearch,
    ReNO,
    ZeroOrderSearch,
)
from itscale.preparation import prepare
from tests.engine.setting import METHODS, CountingReward, Network, smooth, wrapped

STEPS, GROUPS = 6, 2


@dataclass
class Clock:
    """One second a step, whatever a step is to the method."""

    now: float = 0.0

    def tick(self, step: Step) -> None:
        self.now += 1


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(Ledger, "seconds", property(lambda ledger: clock.now))
    return clock


def run(method: Any, reward: Any = None, model: Any = None, **settings: Any) -> itscale.Result:
    return itscale.sample(
        model or wrapped(Network()),
        reward=smooth(reward or CountingReward()),
        method=method,
        steps=STEPS,
        tilt=1.5,
        groups=GROUPS,
        condition=1.0,
        process=process_of(method),
        **settings,
    )


def process_of(method: Any) -> itscale.ODE | itscale.SDE:
    return itscale.ODE() if isinstance(method, ZeroOrderSearch | ReNO) else itscale.SDE()


def moves_of(method: Any) -> int:
    seen: list[Step] = []
    run(method, on_step=seen.append)
    return len(seen)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_stops_when_its_seconds_are_over(name, clock):
    method = METHODS[name]
    moves = moves_of(method)
    reward = smooth(CountingReward())
    plan = prepare(
        wrapped(Network()), reward=reward, method=method, steps=STEPS, process=process_of(method)
    ).plan
    for after in {0, 1, moves // 2, moves - 1}:
        clock.now, network, counting = 0.5, Network(), CountingReward()
        result = run(
            method,
            counting,
            wrapped(network),
            budget=itscale.Budget(seconds=after + 0.25),
            on_step=clock.tick,
        )
        assert clock.now == 0.5 + after
        check_honest(result, method)
        assert network.rows == sum(result.spent.model_rows)
        assert counting.samples == sum(result.spent.reward_calls)
        # denoising as they stand is free, but where particles wait for what comes next without a look
        unseen = result.particles * isinstance(method, PathSearch)
        assert max(result.spent.nfe) - result.trace[-2]["nfe"] in (0, unseen)
        assert max(result.spent.nfe) <= plan.nfe
        if name != "unguided":  # whose scores are planned only where they are limited
            assert max(result.spent.reward_calls) <= plan.reward_calls


def check_honest(result: itscale.Result, method: Any) -> None:
    """Flagged, without a claim; rewards and weights are those of the samples that are handed over."""
    assert result.truncated
    assert result.claim == {"target": None, "evidence": None}
    assert result.log_evidence.isnan().all()
    assert any("ended early" in warning for warning in result.warnings)
    assert result.samples.isfinite().all()
    torch.testing.assert_close(result.rewards.float(), result.samples.sum(-1))
    assert result.trace[-1]["level"] == STEPS
    assert result.trace[-1]["t"] == 1.0
    assert result.trace[-1]["reward_max"] == float(result.rewards.max())
    if method.claim.target != "tilted":
        assert (result.log_weights == 0).all()


@pytest.mark.parametrize("potential", ["difference", "max", "sum"])
@pytest.mark.parametrize("every", [1, 4])
def test_weights_of_an_ended_run_are_those_of_the_samples_as_they_stand(potential, every):
    """Without resampling each weight is exp(tilt r) of the sample itself, whatever was seen on the way."""
    method = SMC(particles=6, ess_threshold=0.0, potential=potential, score_every=every)
    for method_like in (method, ImportanceSampling(particles=6)):
        for moves in (1, 3, 5):
            result = run(method_like, on_step=stop_after(moves))
            assert result.truncated
            torch.testing.assert_close(result.log_weights, 1.5 * result.rewards, rtol=1e-6, atol=1e-6)


def stop_after(moves: int):
    left = [moves]

    def stop(step: Step) -> bool:
        left[0] -= 1
        return left[0] > 0

    return stop


def test_a_noise_search_never_loses_an_incumbent():
    method = METHODS["zero-order"]
    moves = moves_of(method)
    assert moves == 3 * STEPS
    answers = [run(method, on_step=stop_after(k)).rewards for k in range(STEPS, moves + 1)]
    for earlier, later in itertools.pairwise(answers):
        assert (later >= earlier).all()
    assert (answers[-1] > answers[0]).any()


def test_chains_that_draw_hand_over_their_best_child_where_it_beats_them():
    method, gains = METHODS["rbf"], []
    for moves in range(1, moves_of(method)):
        seen: list[Step] = []

        def stop(step: Step, seen: list[Step] = seen, moves: int = moves) -> bool:
            seen.append(step)
            return len(seen) < moves

        result = run(method, on_step=stop)
        assert (result.rewards >= seen[-1].particles.reward).all()
        gains.append(bool((result.rewards > seen[-1].particles.reward).any()))
        assert sum(result.notes["draws per level"]) == GROUPS * method.particles * moves
    assert any(gains)


@pytest.mark.parametrize("name", ["dts", "dts-star"])
def test_a_tree_hands_over_its_best_roll_outs(name):
    """What a round found is not lost: the best reward never falls, and roll-outs under way do not count."""
    method = replace(METHODS[name], particles=4, walkers=2)
    answers = [run(method, on_step=stop_after(k)) for k in range(STEPS, moves_of(method))]
    for earlier, later in itertools.pairwise(answers):
        assert (later.rewards.amax(dim=1) >= earlier.rewards.amax(dim=1)).all()
    seen: list[float] = []
    for result in answers:
        assert (result.rewards.diff(dim=1) <= 0).all()
        seen += [r for r in result.rewards[0].tolist() if r not in seen]
        # the best of everything that ended so far, however the walkers stand now
        assert result.rewards[0].tolist() == sorted(seen, reverse=True)[: result.particles]
    assert answers[0].particles == 2
    assert answers[-1].particles == 4


def test_rounds_of_a_noise_search_under_way_are_dropped():
    method = ZeroOrderSearch(particles=2, neighbours=3, rounds=2)
    after_one_round = run(method, on_step=stop_after(STEPS))
    for extra in range(1, STEPS):
        result = run(method, on_step=stop_after(STEPS + extra))
        assert torch.equal(result.samples, after_one_round.samples)
        assert result.samples.shape == (GROUPS, 2, 3)


def test_sweeps_that_are_over_outlive_the_one_under_way():
    method = ParticleGibbs(particles=4, sweeps=3, burn_in=1)
    two = run(method, on_step=stop_after(2 * STEPS + 1))
    assert two.particles == 4
    assert torch.equal(two.samples, run(method, on_step=stop_after(2 * STEPS + 4)).samples)
    burnt_in_only = run(method, on_step=stop_after(STEPS + 3))
    assert torch.equal(burnt_in_only.samples, run(method, on_step=stop_after(STEPS)).samples)
    three = run(method, on_step=stop_after(3 * STEPS + 4))
    assert three.particles == 8
    assert torch.equal(three.samples[:, :4], two.samples)


def test_branches_under_way_are_judged_as_they_stand():
    method = CoDe(particles=2, children=3, block=4)
    result = run(method, on_step=stop_after(2))
    assert result.samples.shape == (GROUPS, 2, 3)
    # all six branches were scored, and the two answers are the best of three each
    assert result.spent.reward_calls == [6, 6]


class Pulled(KeyboardInterrupt):
    """Ctrl-C."""


def pull_at(moves: int):
    left = [moves]

    def pull(step: Step) -> None:
        left[0] -= 1
        if not left[0]:
            raise Pulled

    return pull


@pytest.mark.parametrize("method", [SMC(particles=5), BestOfN(particles=5), METHODS["rbf"]], ids=repr)
def test_an_interrupt_may_return_what_there_is(method, tmp_path):
    expected = run(method, on_step=stop_after(3))
    with pytest.raises(Pulled):
        run(method, on_step=pull_at(3))
    result = run(method, on_step=pull_at(3), on_interrupt="return")
    for name in ("samples", "rewards", "log_weights", "ess"):
        assert torch.equal(getattr(result, name), getattr(expected, name)), name
    check_honest(result, method)
    # with a checkpoint the run can also go on
    file = tmp_path / "run.pt"
    kept = run(method, on_step=pull_at(3), on_interrupt="return", checkpoint=file)
    assert kept.truncated
    assert file.exists()
    assert torch.equal(run(method, checkpoint=file).samples, run(method).samples)
    assert not file.exists()


def test_an_interrupt_within_a_move_keeps_the_step_before():
    calls = [0]

    def breaks(latents):
        calls[0] += 1
        if calls[0] == 3:
            raise Pulled
        return latents.sum(1)

    result = run(SMC(particles=5), breaks, on_interrupt="return")
    assert result.truncated
    assert torch.equal(result.samples, run(SMC(particles=5), on_step=stop_after(1)).samples)
    assert result.ancestors is not None
    assert len(result.ancestors) == 2
    assert result.spent.nfe == [15, 15]  # the look of the move that was broken off is paid for all the same


def test_what_an_interrupt_does_is_named_in_full():
    with pytest.raises(ConfigError, match="on_interrupt must be 'raise' or 'return', got 'stop'"):
        run(SMC(particles=5), on_interrupt="stop")


def test_a_run_that_is_done_is_not_cut_short():
    assert not run(SMC(particles=5), on_step=stop_after(STEPS)).truncated
    assert math.isfinite(float(run(SMC(particles=5), on_step=stop_after(STEPS)).log_evidence[0]))
