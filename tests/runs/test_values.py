"""The section ``value`` of a configuration: named, with options, swept, and checked before anything runs."""

from __future__ import annotations

import pytest

from itscale.errors import ConfigError
from itscale.runs import load_config, run
from itscale.runs.planning import plan
from itscale.values import Denoised, FlowMap, LookAhead, ManySample
from tests.values.settings import halved

BASE = {
    "model": "gaussian-mixture",
    "reward": "tests.runs.test_resume:first_coordinate",
    "method": {"name": "smc", "particles": 4},
    "run": {"steps": 4},
}


def value_of(section, *overrides):
    return load_config({**BASE, "value": section}, overrides).cells[0].value


def test_a_value_is_named_or_given_with_options():
    assert load_config(BASE).cells[0].value == Denoised()
    assert value_of("look-ahead") == LookAhead()
    assert value_of("look-ahead", "value.steps=3") == LookAhead(steps=3)
    assert value_of({"name": "many-sample", "samples": 8, "spread": [1, 0.5, 0.2, 0.1]}) == ManySample(
        samples=8, spread=(1.0, 0.5, 0.2, 0.1)
    )
    named = value_of({"name": "flow-map", "map": "tests.values.settings:halved", "looks": 0})
    assert named == FlowMap("tests.values.settings:halved", looks=0)
    assert named.build.__self__._function() is halved


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("look-ahed", "value: unknown value 'look-ahed'"),
        ({"name": "look-ahead", "step": 2}, r"unknown key 'value.step'. Did you mean 'steps'\?"),
        ({"name": "look-ahead", "steps": "two"}, "value.steps is 'two'"),
        ("flow-map", "value"),
    ],
)
def test_mistakes_are_named_with_their_path(section, message):
    with pytest.raises(ConfigError, match=message):
        load_config({**BASE, "value": section})


def test_a_sweep_over_values_plans_and_runs_each(tmp_path):
    given = {**BASE, "sweep": {"value": ["denoised", {"name": "look-ahead", "steps": 3}]}}
    sizes = plan(load_config(given))
    assert [cell.nfe for cell in sizes.cells] == [16, 16 + 3 * 4 * 2]
    done = run(given, out=tmp_path / "sweep")
    assert done.exit_code == 0
    assert [row["nfe"] for row in done.rows] == [16, 40]
    assert len({cell.key for cell in load_config(given).cells}) == 2
