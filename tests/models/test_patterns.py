"""Sequences given as texts: what is read, what is refused, and what stays in samples and runs."""

from __future__ import annotations

import json

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.models import Pattern, wrap_masked
from itscale.runs import load_config, run

DNA = Pattern("ACGT", 8, 4)
SELFIES = Pattern(("[nop]", "[C]", "[=O]"), 5, 3)


def flat(x):
    return torch.zeros(*x.shape, 4)


MODEL = wrap_masked(flat, vocabulary=4, length=8, pattern=DNA)


def test_underscores_and_the_end_are_generated():
    assert DNA("AC_T").tolist() == [0, 1, 4, 3, 4, 4, 4, 4]
    assert DNA("").tolist() == [4] * 8
    assert SELFIES("[C]_[=O]").tolist() == [1, 3, 2, 3, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACGTACGTA", "has 9 positions, and sequences of the model have 8"),
        ("ACN", "'N', which is not in the model's vocabulary"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        DNA(text)
    with pytest.raises(ConfigError, match=r"'\[c\]', which is not.*Did you mean '\[C\]'"):
        SELFIES("[C][c]")


def test_samples_keep_what_is_given():
    result = itscale.sample(MODEL, n=6, initial="AC__GT", seed=0)
    assert (result.samples[0][:, [0, 1, 4, 5]] == torch.tensor([0, 1, 2, 3])).all()
    assert result.spent.nfe == [6 * 4]
    per_group = itscale.sample(MODEL, n=2, groups=2, initial=["A", "CC"], seed=0).samples
    assert (per_group[0, :, 0] == 0).all()
    assert (per_group[1, :, :2] == 1).all()
    numbers = itscale.sample(MODEL, n=6, initial=[0, 1, 4, 4, 2, 3, 4, 4], seed=0)
    assert torch.equal(numbers.samples, result.samples)
    product = itscale.sample(MODEL * MODEL, method=itscale.methods.FKC(particles=4), initial="AC", seed=0)
    assert (product.samples[0][:, :2] == torch.tensor([0, 1])).all()


def test_models_that_do_not_say_how_they_write_are_named():
    silent = wrap_masked(flat, vocabulary=4, length=8)
    with pytest.raises(ConfigError, match=r"give token numbers, or make it with wrap_masked\(pattern"):
        itscale.sample(silent, n=2, initial="AC")
    with pytest.raises(ConfigError, match="token numbers or patterns"):
        itscale.sample(MODEL, n=2, initial=[0, "A"])


def test_runs_take_patterns(tmp_path):
    config = {
        "model": "dna",
        "reward": {"name": "dna-binding", "factor": "PAX3"},
        "run": {"initial": "__TAAT", "groups": 2, "budget": {"nfe": 40}},
        "sweep": {"method": ["unguided", "smc"]},
    }
    summary = run(config, out=tmp_path / "run")
    assert summary.exit_code == 0
    lines = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert texts
    assert all(text[2:6] == "TAAT" for text in texts)
    assert all(row["nfe"] == 40 for row in summary.rows)  # four positions cost four looks
    with pytest.raises(ConfigError, match=r"run\.initial is for masked models, and 'digits' is none"):
        load_config({"model": "digits", "run": {"initial": "A"}})
    with pytest.raises(ConfigError, match="has 9 positions"):
        load_config({**config, "run": {"initial": "ACGTACGTA"}})


def test_keys_of_runs_without_a_pattern_are_as_before():
    plain = {"model": "dna", "reward": "dna-binding"}
    first, second = load_config(plain).cells[0], load_config({**plain, "run": {"initial": "A"}}).cells[0]
    assert "initial" not in first.resolved["run"]
    assert first.key != second.key
