"""Results: estimates, reweighting, choices among samples, files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import SMC, BestOfN, ImportanceSampling, NestedSMC, Unguided
from itscale.result import Result
from tests.engine.setting import Network, total, wrapped
from tests.methods.problem import linear_reward
from tests.oracles import DIRECTION, mixture_2d


def run(method=None, groups: int = 3, model=None, **settings) -> Result:
    settings = {"reward": linear_reward, "steps": 8, "seed": 2, **settings}
    return itscale.sample(
        model or mixture_2d(), method=method or SMC(particles=12), groups=groups, **settings
    )


def by_hand(rewards, log_weights, **changes) -> Result:
    """A result with chosen numbers; sample i of a group is the number i."""
    rewards, log_weights = (torch.tensor(v, dtype=torch.float64) for v in (rewards, log_weights))
    groups, n = rewards.shape
    samples = torch.arange(n, dtype=torch.float32).expand(groups, n)[..., None].clone()
    base = run(ImportanceSampling(particles=n), groups)
    evidence = torch.logsumexp(log_weights, 1) - math.log(n)
    return replace(
        base,
        samples=samples,
        states=samples,
        rewards=rewards,
        log_weights=log_weights,
        log_evidence=evidence,
        **changes,
    )


def test_expectations_are_weighted_means_with_errors_over_groups():
    result = by_hand([[0, 1, 2], [3, 4, 5]], [[0, 0, math.log(2)], [0, -math.inf, -math.inf]])
    estimate = result.expect(result.rewards)
    assert estimate.per_group.tolist() == pytest.approx([1.25, 3.0])
    assert estimate.value == pytest.approx(2.125)
    assert estimate.standard_error == pytest.approx(1.75 / math.sqrt(2) / math.sqrt(2))
    assert result.expect(lambda x: x[:, 0]).per_group.tolist() == pytest.approx([1.25, 0.0])
    assert str(estimate) == "2.125 ± 0.88"


def test_one_group_has_no_standard_error():
    assert math.isnan(run(groups=1).expect(lambda x: x[:, 0]).standard_error)


def test_groups_may_count_by_their_evidence():
    result = by_hand([[0, 0], [1, 1]], [[0, 0], [math.log(3), math.log(3)]])
    assert result.expect(result.rewards).value == pytest.approx(0.5)
    assert result.expect(result.rewards, weighting="evidence").value == pytest.approx(0.75)
    with pytest.raises(ConfigError, match="weighting must be"):
        result.expect(result.rewards, weighting="size")
    with pytest.raises(ConfigError, match="evidence"):
        run(BestOfN(particles=4)).expect(linear_reward, weighting="evidence")


def test_evidence_weighting_of_groups_is_the_estimate_of_one_larger_population():
    """Importance sampling in 4 groups of 8 is importance sampling of 32."""
    result = run(ImportanceSampling(particles=8), 4)
    flat = result.log_weights.flatten()
    pooled = float(torch.softmax(flat, 0) @ result.rewards.flatten())
    assert result.expect(result.rewards, weighting="evidence").value == pytest.approx(pooled, rel=1e-12)


def test_samples_of_weight_zero_may_have_a_score_of_minus_infinity():
    result = by_hand([[-math.inf, 1, 2]], [[-math.inf, 0, 0]])
    assert result.expect(result.rewards).value == pytest.approx(1.5)


def test_dead_groups_are_left_out_of_estimates():
    result = by_hand([[0, 1], [5, 6]], [[0, 0], [-math.inf, -math.inf]])
    assert result.dead_groups == [1]
    assert result.expect(result.rewards).value == pytest.approx(0.5)
    dead = by_hand([[0, 1]], [[-math.inf, -math.inf]])
    assert math.isnan(dead.expect(dead.rewards).value)
    assert torch.equal(dead.weights, torch.full((1, 2), 0.5, dtype=torch.float64))


def test_a_function_must_give_one_number_per_sample():
    with pytest.raises(ConfigError, match="one number per sample"):
        run().expect(lambda x: x)


def test_the_best_are_sorted_by_reward_within_their_group():
    result = by_hand([[1, 3, 2], [-math.inf, 0, -1]], [[0, 0, 0], [0, 0, 0]])
    best = result.best(2)
    assert best.index.tolist() == [[1, 2], [1, 2]]
    assert best.rewards.tolist() == [[3, 2], [0, -1]]
    assert best.samples[..., 0].tolist() == [[1, 2], [1, 2]]
    for k in (0, 4):
        with pytest.raises(ConfigError, match=r"k must be in 1\.\.3"):
            result.best(k)


def test_resampling_repeats_samples_in_proportion_to_their_weights():
    result = by_hand([[0, 0, 0]], [[math.log(1), math.log(2), math.log(5)]])
    drawn = result.resample(800)[0, :, 0].long().bincount(minlength=3).double()
    # systematic: within one of the expected number
    assert (drawn - torch.tensor([100.0, 200.0, 500.0])).abs().max() < 1
    assert torch.equal(result.resample(8, seed=4), result.resample(8, seed=4))
    assert result.resample().shape == result.samples.shape
    with pytest.raises(ConfigError, match="at least 1"):
        result.resample(0)


@pytest.mark.parametrize("method", [SMC(particles=12), NestedSMC(particles=6, children=2)], ids=repr)
def test_retilting_changes_weights_and_evidence_by_the_factor_between_the_laws(method):
    result = run(method, tilt=1.0)
    sharper = result.retilt(1.5)
    expected = result.log_weights + 0.5 * result.rewards
    torch.testing.assert_close(sharper.log_weights, expected)
    gain = torch.logsumexp(expected, 1) - torch.logsumexp(result.log_weights, 1)
    torch.testing.assert_close(sharper.log_evidence, result.log_evidence + gain)
    assert sharper.tilt == 1.5
    back = sharper.retilt(1.0)
    torch.testing.assert_close(back.log_weights, result.log_weights)
    torch.testing.assert_close(back.log_evidence, result.log_evidence)


def test_unguided_samples_are_retilted_from_the_base_law_whatever_tilt_the_run_was_given():
    for tilt in (0.0, 1.0, 2.5):
        result = run(Unguided(particles=400), 20, tilt=tilt)
        tilted = result.retilt(1.0)
        torch.testing.assert_close(tilted.log_weights, result.rewards)
        assert tilted.claim["target"] == "tilted"
    target, log_z = mixture_2d().tilted_linear(DIRECTION, 1.0)
    # 8000 samples: Z-hat has a relative standard error of 0.02, E r of 0.02; 8 steps cost 0.1
    assert float(torch.logsumexp(tilted.log_evidence, 0)) - math.log(20) == pytest.approx(log_z, abs=0.25)
    assert tilted.expect(tilted.rewards).value == pytest.approx(target.expect_linear(DIRECTION), abs=0.25)


def test_a_sample_without_a_score_stays_without_weight():
    result = by_hand([[-math.inf, 1]], [[-math.inf, 0]])
    assert result.retilt(0.0).log_weights[0, 0] == -math.inf


def test_searches_cannot_be_retilted_and_unscored_samples_have_no_best():
    with pytest.raises(ConfigError, match="was a search"):
        run(BestOfN(particles=4)).retilt(2.0)
    plain = run(Unguided(particles=4), reward=None)
    for what in (plain.best, lambda: plain.retilt(2.0)):
        with pytest.raises(ConfigError, match="needs rewards"):
            what()


def test_lineage_traces_every_particle_to_the_first_draw():
    seen = []
    result = run(SMC(particles=12, ess_threshold=1.0), on_step=lambda s: seen.append(s.particles.eve))
    assert torch.equal(result.lineage()[0], seen[-1])
    assert len(result.lineage()[0].unique()) < 12
    untouched = run(SMC(particles=12, ess_threshold=0.0))
    assert torch.equal(untouched.lineage(), torch.arange(12).expand(9, 3, 12))
    with pytest.raises(ConfigError, match="constant number"):
        replace(untouched, ancestors=None).lineage()


def test_saved_results_come_back_whole(tmp_path):
    result = run(held_out=linear_reward, budget=itscale.Budget(nfe=500))
    folder = result.save(tmp_path / "deep" / "folder")
    assert sorted(p.name for p in folder.iterdir()) == ["result.json", "result.npz"]
    back = Result.load(folder)
    assert torch.equal(back.samples, result.samples)
    assert back.samples.dtype == result.samples.dtype
    assert torch.equal(back.held_out, result.held_out)
    assert back.spent == result.spent
    assert back.trace == result.trace
    assert back.expect(back.rewards).value == result.expect(result.rewards).value
    assert repr(back) == repr(result)


def test_loading_says_what_is_missing_or_foreign(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        Result.load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"no result in .*notes\.txt"):
        Result.load(tmp_path)
    run().save(tmp_path)
    facts = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**facts, "version": 99}))
    with pytest.raises(ConfigError, match="another version"):
        Result.load(tmp_path)


def test_summary_and_representation_hold_the_numbers_of_a_table():
    result = run(held_out=linear_reward)
    summary = result.summary()
    assert (summary["groups"], summary["particles"]) == (3, 12)
    assert summary["reward"] == result.expect(result.rewards).value
    assert summary["held_out_of_best"] == pytest.approx(summary["best_reward"])
    assert summary["nfe"] == 96
    assert "3 x 12 vector samples" in repr(result)
    assert "96" in result._repr_html_()
    plain = run(Unguided(particles=4), reward=None).summary()
    assert plain["reward"] is plain["best_reward"] is plain["held_out"] is plain["log_evidence"] is None


def test_only_images_make_a_grid():
    with pytest.raises(ConfigError, match="modality 'vector'"):
        run().grid()
    event = (1, 6, 6)
    model = replace(wrapped(Network(event), event), modality="image", decoder=torch.sigmoid)
    result = itscale.sample(
        model,
        reward=total,
        method=BestOfN(particles=5),
        groups=2,
        steps=3,
        condition=1.0,
    )
    picture = result.grid(columns=3)
    assert picture.width > picture.height
