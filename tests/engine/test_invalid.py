"""Dead groups, invalid scores, non-finite states, rewards that say nothing."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.engine.messages import Scored
from itscale.errors import NonFiniteState, RewardError
from itscale.methods import SMC, BestOfN, NestedSMC
from tests.engine.setting import Network, make_engine, wrapped

STEPS = 6


def run(reward, method=None, groups=2, network=None, **more):
    return itscale.sample(
        wrapped(network or Network()),
        reward=reward,
        method=method or SMC(particles=20),
        steps=STEPS,
        condition=[float(g) for g in range(groups)],
        groups=groups,
        **more,
    )


def base(latents):
    return latents.sum(1)


def test_of_what_a_differentiable_reward_returns_nan_and_plus_infinity_are_no_scores():
    values = torch.tensor([1.0, math.nan, math.inf, -math.inf], dtype=torch.float64)
    x = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [math.inf, 0.0]])
    found = Scored.of(values, x)
    assert found.valid.tolist() == [True, False, False, True]
    assert found.finite.tolist() == [True, True, True, False]


def test_minus_infinity_is_a_legal_score_of_weight_zero():
    def half_space(latents):
        return torch.where(latents[:, 0] > 0, base(latents), -math.inf)

    result = run(half_space)
    assert result.spent.invalid_rewards == 0
    alive = result.weights > 0
    assert (result.samples[..., 0] > 0)[alive].all()
    assert result.log_evidence.isfinite().all()
    assert math.isfinite(result.expect(result.rewards).value)


@pytest.mark.parametrize("method", [SMC(particles=8), NestedSMC(particles=3, children=4)], ids=repr)
def test_a_dead_group_is_named_and_leaves_the_others_as_they_were(method):
    def impossible_for_the_first(latents, conditions):
        dead = torch.tensor([c == 0 for c in conditions])
        return torch.where(dead, -math.inf, base(latents))

    result = run(impossible_for_the_first, method)
    assert result.dead_groups == [0]
    assert result.log_evidence[0] == -math.inf
    assert any("lost all their weight" in w for w in result.warnings)
    healthy = run(base, method)
    assert torch.equal(result.samples[1], healthy.samples[1])
    assert torch.equal(result.log_evidence[1], healthy.log_evidence[1])
    assert result.expect(result.rewards).per_group[0].isnan()


def test_an_invalid_intermediate_score_keeps_the_last_valid_one():
    reference, seen = [], []
    run(base, on_step=lambda s: reference.append(s.particles))

    def fails_at_level_two(latents, step):
        return torch.full((len(latents),), math.nan) if step == 2 else base(latents)

    def partly(latents, step):
        values = base(latents)
        return torch.where((latents[:, 0] > 0) & (step == 2), math.nan, values)

    result = run(partly, SMC(particles=20, ess_threshold=0), on_step=lambda s: seen.append(s.particles))
    assert result.spent.invalid_rewards > 0
    before, at = seen[0], seen[1]
    kept = at.value == before.value
    assert 0 < int(kept.sum()) < kept.numel()
    # the weights still add up to the reward of the sample
    torch.testing.assert_close(result.log_weights, result.rewards, rtol=0, atol=1e-9)
    with pytest.raises(RewardError, match="no valid score"):
        run(fails_at_level_two)


@pytest.mark.parametrize(
    "method",
    [SMC(particles=20), SMC(particles=20, score_every=4), BestOfN(particles=20)],
    ids=["scored before the last move", "scored at the end", "best of n"],
)
def test_an_invalid_final_score_is_minus_infinity(method):
    def invalid_at_the_end(latents, step):
        return torch.where((latents[:, 0] > 0) & (step >= STEPS - 1), math.nan, base(latents))

    result = run(invalid_at_the_end, method)
    bad = result.samples[..., 0] > 0
    assert bad.any()
    assert (result.rewards == -math.inf)[bad].all()
    assert result.rewards[~bad].isfinite().all()
    if isinstance(method, SMC):
        assert (result.log_weights == -math.inf)[bad].all()
    best = result.best()
    assert (best.samples[..., 0] <= 0)[best.rewards > -math.inf].all()


@pytest.mark.parametrize("level", [2, STEPS - 1, STEPS])
def test_a_state_that_is_not_finite_dies_and_is_counted(level):
    """Even under a reward that gives it a finite score."""

    class Breaking(Network):
        def forward(self, x, t, condition):
            out = super().forward(x, t, condition)
            out[:1] = torch.where((t[:1] > (level - 1.5) / STEPS)[:, None], math.nan, out[:1])
            return out

    def blind(latents):
        return base(latents.nan_to_num(0.0))

    # One row of 40 breaks, in one micro-batch a call. It breaks at the look of level - 1, moves to level.
    method = BestOfN(particles=20) if level == STEPS else SMC(particles=20, ess_threshold=0)
    result = run(blind, method, network=Breaking(), pool=itscale.pools.Local(microbatch=64))
    broken = result.samples.isnan().any(-1)
    assert broken[0, 0]
    assert int(broken.sum()) == 1
    assert result.spent.dead_states >= 1
    assert result.rewards[0, 0] == -math.inf
    if isinstance(method, SMC):
        assert result.log_weights[0, 0] == -math.inf


def test_more_than_a_tenth_of_broken_states_stop_the_run():
    class Exploding(Network):
        def forward(self, x, t, condition):
            out = super().forward(x, t, condition)
            return torch.where((x[:, :1] > 0) & (t[:, None] > 0.3), math.inf, out)

    def blind(latents):
        return base(latents.nan_to_num(0.0, 0.0, 0.0))

    with pytest.raises(NonFiniteState, match=r"of 40 states are NaN or infinite at level 3"):
        run(blind, network=Exploding())


def test_a_reward_that_never_changes_is_reported():
    result = run(lambda latents: torch.ones(len(latents)))
    assert any("same for all particles" in w for w in result.warnings)
    assert not run(base).warnings


def test_an_engine_without_valid_scores_raises_with_the_reason():
    def broken(latents):
        raise ValueError("no such file")

    with pytest.raises(RewardError, match="no such file"):
        run(broken)
    engine = make_engine(wrapped(Network()), lambda latents: torch.full((len(latents),), math.nan))
    with pytest.raises(RewardError, match="no valid score for any of 8 samples"):
        engine.score(engine.look(engine.start(4)))
