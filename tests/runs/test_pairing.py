"""Two runs compared unit by unit."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from itscale.errors import ConfigError
from itscale.runs import compare, run
from itscale.runs.pairing import Difference, conclusion
from itscale.runs.statistics import Comparison, Interval

CONFIG = {
    "model": "gaussian-mixture",
    "reward": "tests.runs.test_run:first_coordinate",
    "held_out": "tests.runs.test_run:first_coordinate",
    "method": "smc",
    "run": {"steps": 3, "groups": 2},
    "sweep": {"run.budget.nfe": [6, 12], "run.seed": [0, 1, 2]},
}


@pytest.fixture(scope="module")
def smc(tmp_path_factory):
    return run(CONFIG, out=tmp_path_factory.mktemp("smc") / "a").folder


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    return run({**CONFIG, "method": "best-of-n"}, out=tmp_path_factory.mktemp("search") / "b").folder


def rewards(folder, measure="reward"):
    """(seed, group, budget) -> reward, straight from the files."""
    rows = [json.loads(path.read_text()) for path in folder.glob("cells/*/summary.json")]
    return {
        (row["config"]["run"]["seed"], group, row["budget"]["nfe"]): value
        for row in rows
        for group, value in zip(row["groups"], row["per_group"][measure], strict=True)
    }


def with_rewards(source, target, change):
    """Copy a run and change its rewards, by seed and budget."""
    shutil.copytree(source, target)
    for path in target.glob("cells/*/summary.json"):
        row = json.loads(path.read_text())
        more = change(row["config"]["run"]["seed"], row["budget"]["nfe"])
        row["per_group"]["reward"] = [value + more for value in row["per_group"]["reward"]]
        path.write_text(json.dumps(row))
    return target


def test_differences_are_those_of_equal_seed_group_and_budget(smc, search):
    found = compare(smc, search)
    ours, theirs = rewards(smc), rewards(search)
    assert (found.pairs, found.units, found.unmatched) == (12, 6, (0, 0))
    assert found.matched_on == ["run.budget.nfe"]
    reward = found.measures["reward"]
    assert reward is not None
    assert reward.a == pytest.approx(sum(ours.values()) / 12)
    assert reward.paired.difference.mean == pytest.approx(sum(ours[k] - theirs[k] for k in ours) / 12)
    by_unit = {k[:2] for k in ours if sum(ours[(*k[:2], b)] - theirs[(*k[:2], b)] for b in (6, 12)) > 0}
    ties = {k[:2] for k in ours if sum(ours[(*k[:2], b)] - theirs[(*k[:2], b)] for b in (6, 12)) == 0}
    assert reward.paired.wins == len(by_unit) + len(ties) / 2
    nfe = found.measures["nfe"]
    assert nfe is not None
    assert (nfe.a, nfe.b) == (9, 9)
    assert [(s.label, s.pairs) for s in found.strata] == [("nfe 6", 6), ("nfe 12", 6)]
    assert [path for path, _, _ in found.changed] == ["method", "process"]  # best-of-n solves the ODE


def test_pairs_of_one_unit_are_one_observation(smc, tmp_path):
    """Differences of +1 and +3 at the two budgets of every unit leave no spread between units."""
    more = with_rewards(smc, tmp_path / "more", lambda seed, nfe: 1.0 if nfe == 6 else 3.0)
    gap = compare(more, smc).measures["reward"].paired.difference
    assert (gap.low, gap.mean, gap.high, gap.groups) == pytest.approx((2.0, 2.0, 2.0, 6))


def test_sign_follows_the_order(smc, tmp_path):
    more = with_rewards(smc, tmp_path / "more", lambda seed, nfe: 1.0 + 0.1 * seed)
    assert compare(more, smc).conclusion.startswith("A is better by 1.1 (1.0")
    assert compare(smc, more).conclusion.startswith("B is better by 1.1 (1.0")
    assert compare(smc, smc).conclusion == "A and B have equal rewards on 12 pairs in 6 units."


def test_missing_cells_and_other_seeds_are_counted(smc, search, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(search, fewer)
    row = next(
        p for p in fewer.glob("cells/*/summary.json") if json.loads(p.read_text())["budget"]["nfe"] == 12
    )
    row.unlink()
    found = compare(smc, fewer)
    assert (found.pairs, found.unmatched) == (10, (2, 0))


def test_settings_that_differ_are_listed_one_by_one(smc, tmp_path):
    method = {"name": "smc", "ess_threshold": 0.9}
    other = run(
        {**CONFIG, "method": method, "run": {**CONFIG["run"], "tilt": 2.0}}, out=tmp_path / "b"
    ).folder
    found = compare(smc, other)
    assert found.changed == [("method.ess_threshold", 0.5, 0.9), ("run.tilt", 1.0, 2.0)]


def test_two_cells_are_compared_across_methods_of_one_sweep(tmp_path):
    config = {
        **CONFIG,
        "sweep": {"method": ["smc", "best-of-n"]},
        "run": {**CONFIG["run"], "budget": {"nfe": 6}},
    }
    done = run({k: v for k, v in config.items() if k != "method"}, out=tmp_path / "a")
    ours, theirs = (done.folder / "cells" / row["cell"] for row in done.rows)
    found = compare(ours, theirs)
    assert (found.pairs, found.units) == (2, 2)
    assert [path for path, _, _ in found.changed] == ["method", "process"]  # best-of-n solves the ODE
    whole = compare(done.folder, done.folder)
    assert (whole.pairs, whole.matched_on) == (4, ["method", "process"])
    with pytest.raises(ConfigError, match="holds no finished cell"):
        compare(done.folder / "cells" / "0", theirs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reward": "ink", "model": "digits", "held_out": None}, "different models"),
        ({"reward": "tests.runs.test_pairing:second_coordinate"}, "different rewards"),
        ({"model": {"name": "gaussian-mixture", "stds": [0.4, 0.4, 0.4]}}, "different models"),
        ({"sweep": {"run.budget.nfe": [15, 18]}}, r"run\.budget\.nfe is 6 or 12 in A and 15 or 18 in B"),
        ({"run": {**CONFIG["run"], "groups": [7]}}, "share no seed, group and condition"),
    ],
)
def test_what_does_not_compare_is_refused_with_the_reason(smc, tmp_path, change, said):
    config = {**CONFIG, "sweep": {"run.budget.nfe": [6, 12]}, **change}
    other = run(config, out=tmp_path / "b").folder
    with pytest.raises(ConfigError, match=said):
        compare(smc, other)


def test_other_weights_are_another_model(smc, tmp_path):
    copies = []
    for name in ("a", "b"):
        copy = tmp_path / name
        shutil.copytree(smc, copy)
        facts = json.loads((copy / "env.json").read_text())
        (copy / "env.json").write_text(json.dumps({**facts, "weights": {"gaussian-mixture": name}}))
        copies.append(copy)
    with pytest.raises(ConfigError, match="different models: the weights"):
        compare(*copies)


def test_other_held_out_reward_is_not_compared(smc, tmp_path):
    other = run(
        {**CONFIG, "held_out": "tests.runs.test_pairing:second_coordinate"}, out=tmp_path / "b"
    ).folder
    found = compare(smc, other)
    assert found.measures["held_out"] is None
    assert "held-out" in found.notes[0]


def second_coordinate(samples):
    return samples[:, 1]


@pytest.mark.parametrize(
    ("low", "mean", "high", "said"),
    [
        (0.12, 0.41, 0.70, "A is better by 0.41 (0.12 to 0.7) on 40 pairs."),
        (-0.70, -0.41, -0.12, "B is better by 0.41 (0.12 to 0.7) on 40 pairs."),
        (-0.1, 0.2, 0.5, "A and B are not told apart: A - B is 0.2 (-0.1 to 0.5) on 40 pairs."),
        (math.nan, 0.2, math.nan, "A and B differ by 0.2 on 40 pairs; one unit says nothing about chance."),
    ],
)
def test_conclusion_is_one_plain_sentence(low, mean, high, said):
    gap = Interval(mean, low, high, 40)
    assert conclusion(Difference(1.0, 1.0 - mean, Comparison(gap, 20)), 40) == said
