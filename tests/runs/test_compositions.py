"""Compositions in configurations: experts with exponents, checked by place, run, and shown in the report."""

from __future__ import annotations

import json

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import FKC
from itscale.models.algebra import Product, Ramp
from itscale.process import SDE
from itscale.runs import load_config, report, run
from itscale.runs.draws import load_draws
from itscale.runs.planning import plan

LEFT = {"name": "gaussian-mixture", "means": [[-1.0, 0.0]], "stds": [0.5]}
RIGHT = {"name": "gaussian-mixture", "means": [[1.0, 0.0]], "stds": [0.5]}
LAW = {"name": "product", "experts": [{**LEFT, "exponent": 0.5}, RIGHT], "variance": 0.5}
BASE = {"model": LAW, "run": {"steps": 10, "groups": 2}}


def model_of(section, *overrides):
    return load_config({**BASE, "model": section}, overrides).cells[0].model.load()


def test_experts_have_exponents_conditions_and_options():
    law = model_of(LAW)
    assert isinstance(law, Product)
    assert [term.exponent for term in law.terms] == [0.5, 1.0]
    assert law.variance == 0.5
    digits = [{"name": "digits", "condition": 3, "exponent": 2}, {"name": "digits", "exponent": -1}]
    law = model_of({"name": "product", "experts": digits})
    assert repr(law) == "DigitFlow.given(3) ** 2 * DigitFlow ** -1"
    assert law.terms[0].model.model is law.terms[1].model  # one network, asked in one call
    assert model_of(LAW, "model.experts.1.exponent=[1, 3]").terms[1].exponent == Ramp(1, 3)
    assert model_of(LAW, "model.gauge=adaptive").gauge == "adaptive"


def test_superpositions_are_named_too():
    experts = [LEFT, RIGHT]
    either = model_of({"name": "mixture", "experts": experts, "weights": [3, 1]})
    assert either.weights == (3, 1)
    both = model_of({"name": "equal-density", "experts": experts, "clamp": 3})
    assert both.clamp == 3


def test_a_run_is_what_sample_returns_and_products_are_corrected_by_default():
    cell = load_config(BASE).cells[0]
    assert cell.method == FKC()
    assert cell.process == SDE()
    there = itscale.sample(cell.model.load(), particles=8, steps=10, groups=2)
    assert there.claim == {"target": "tilted", "evidence": "unbiased"}
    assert there.config["process"]["name"] == "SDE"
    plain = itscale.sample(cell.model.load(), method="unguided", n=8, steps=10)
    assert plain.claim["target"] is None  # followed without weights


def test_a_sweep_over_exponents_runs_and_is_reported_with_what_is_uncorrected(tmp_path):
    given = {
        **BASE,
        "sweep": {
            "method": [
                {"name": "unguided", "particles": 6},
                {"name": "fkc", "particles": 8, "uncorrected": 5},
            ],
            "model.experts.0.exponent": [0.5, 2],
        },
    }
    assert [cell.nfe for cell in plan(load_config(given)).cells] == [60, 60, 130, 130]
    done = run(given, out=tmp_path / "sweep")
    assert done.exit_code == 0
    assert [row["composition"]["is_corrected"] for row in done.rows] == [False, False, True, True]
    drawn = load_draws(tmp_path / "sweep", done.rows[2]["cell"])
    assert {name: x.shape for name, x in drawn.items()} == {"corrected": (16, 2), "uncorrected": (10, 2)}
    page = report(tmp_path / "sweep").read_text()
    assert "Compositions, corrected and uncorrected" in page
    assert "GaussianMixture ** 2 * GaussianMixture has log Z =" in page
    assert "What more compute buys" not in page  # without a reward there is nothing to buy


def test_a_reward_tilts_a_composition(tmp_path):
    given = {
        **BASE,
        "reward": "tests.runs.test_resume:first_coordinate",
        "method": {"name": "smc", "particles": 8},
    }
    row = run(given, out=tmp_path / "run").rows[0]
    assert row["claim"]["target"] == "tilted"
    assert row["reward"] is not None


def test_a_sample_is_handed_over_by_weight(tmp_path):
    given = {**BASE, "method": {"name": "fkc", "particles": 8, "ess_threshold": 0.0}}
    given["run"] = {**BASE["run"], "save": True}
    done = run(given, out=tmp_path / "run")
    result = itscale.Result.load(tmp_path / "run" / "cells" / done.rows[0]["cell"])
    chosen = next(i for i, cumulated in enumerate(result.weights[0].cumsum(0)) if cumulated >= 0.5)
    samples = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    answers = [row for row in map(json.loads, samples) if row["is_answer"] and row["group"] == 0]
    torch.testing.assert_close(torch.tensor(answers[0]["sample"]), result.samples[0, chosen].float())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "product", "experts": []}, "model.experts must list models"),
        ({"name": "product"}, "model needs experts"),
        ({"name": "product", "experts": ["digts"]}, r"model.experts.0: unknown model 'digts'. Did you mean"),
        ({"name": "product", "experts": [LEFT, 3]}, "model.experts.1 must be a model's name, .* got 3"),
        ({"name": "product", "experts": [{**LEFT, "mean": 1}]}, "unknown key 'model.experts.0.mean'"),
        (
            {"name": "product", "experts": [{**LEFT, "exponent": "2"}]},
            r"model.experts.0.exponent is '2': it should",
        ),
        ({"name": "product", "experts": [LAW]}, "model.experts.0 is a product, and experts are models"),
        ({**LAW, "condition": 3}, "belong to the experts of a product"),
        ({**LAW, "gauge": "gausian"}, "model.gauge is 'gausian'"),
        ({"name": "mixture", "experts": [{**LEFT, "exponent": 2}, RIGHT]}, "exponent belongs to a product"),
        (
            {**LAW, "experts": [{**LEFT, "condition": 3}, RIGHT]},
            "model.experts.0: a GaussianMixture takes no condition, got 3",
        ),
        ({**LAW, "experts": [{**LEFT, "exponent": -2}, RIGHT]}, "they must sum to more than 0"),
    ],
)
def test_mistakes_are_named_with_their_place(section, message):
    with pytest.raises(ConfigError, match=message):
        plan(load_config({**BASE, "model": section}))


def test_the_recipe_is_checked_and_planned():
    cells = plan(load_config("composition")).cells
    assert [cell.nfe for cell in cells] == [160, 800]
    assert load_config("composition").cells[1].model.networks().keys() == {"digits"}
