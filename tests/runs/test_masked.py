"""Masked models from a configuration: decoders by name, a step per position, the same reports."""

import pytest

from itscale.decoders import AncestralTokens, Sharpening
from itscale.errors import ConfigError
from itscale.process import Masking
from itscale.runs import load_config, plan, report, run

CONFIG = {
    "model": "tests.decoders.toy:chain",
    "reward": "tests.decoders.toy:zeros",
    "run": {"groups": 2, "tilt": 1.0, "budget": {"nfe": 40}},
    "sweep": {"method": ["unguided", "best-of-n", "smc", "svdd"]},
}


def test_a_sweep_of_a_masked_model_runs_as_planned_and_reports(tmp_path):
    config = load_config(CONFIG)
    planned = [cell.nfe for cell in plan(config).cells]
    done = run(config, out=tmp_path / "a")
    assert done.exit_code == 0
    assert [row["nfe"] for row in done.rows] == planned
    assert max(planned) <= 40
    assert "best-of-n" in report(done.folder).read_text()


def test_steps_default_to_the_positions_and_decoders_have_options():
    (cell,) = load_config({**CONFIG, "sweep": {}, "method": "smc"}).cells
    assert cell.run.steps is None
    assert cell.steps == 5
    assert cell.process == Masking()
    solver = {"name": "ancestral", "correct": True, "sharpening": {"temperature": 0.9}}
    asked = {**CONFIG, "sweep": {}, "solver": solver, "process": {"name": "masking", "schedule": "cosine"}}
    (cell,) = load_config(asked).cells
    assert cell.solver == AncestralTokens(sharpening=Sharpening(temperature=0.9), correct=True)
    assert cell.process == Masking(schedule="cosine")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"solver": "first-hiting"}, "Did you mean 'first-hitting'"),
        ({"solver": {"name": "ancestral", "sharpening": {"temprature": 1}}}, "temprature"),
        ({"solver": {"name": "ancestral", "sharpening": {"temperature": -1}}}, "temperature must be"),
        ({"process": {"name": "masking", "schedule": "cosin"}}, "Did you mean"),
        ({"process": "sde"}, "Masking"),
    ],
)
def test_wrong_settings_are_named_before_anything_runs(section, message):
    with pytest.raises(ConfigError, match=message):
        plan(load_config({**CONFIG, "sweep": {}, **section}))
