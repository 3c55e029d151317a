"""A run from a configuration to a report, and on from where it was stopped."""

import json
import re

import pytest

from itscale.errors import ConfigError
from itscale.runs import load_config, plan, report, run

CONFIG = {
    "model": "gaussian-mixture",
    "reward": "tests.runs.test_run:first_coordinate",
    "held_out": "tests.runs.test_run:first_coordinate",
    "run": {"steps": 6, "groups": 3, "tilt": 1.0, "budget": {"nfe": 48}},
    "sweep": {"method": ["unguided", "best-of-n", "smc", "svdd"]},
}


def first_coordinate(samples):
    return samples[:, 0]


def breaking(samples):
    raise ValueError("this reward always breaks")


def test_a_run_writes_every_cell_and_a_page_without_addresses(tmp_path):
    done = run(CONFIG, out=tmp_path / "a")
    assert done.exit_code == 0
    assert len(done.rows) == 4
    page = report(done.folder).read_text()
    assert re.search(r"https?://", page) is None
    for method in CONFIG["sweep"]["method"]:
        assert method in page
    assert (done.folder / "scaling.png").exists()


def test_the_plan_is_what_the_ledger_reports(tmp_path):
    config = load_config(CONFIG)
    done = run(config, out=tmp_path / "a")
    planned = [cell.nfe for cell in plan(config).cells]
    assert [row["nfe"] for row in done.rows] == planned
    assert max(planned) <= 48


def test_resuming_does_the_missing_cells_alone_and_gives_the_same_rows(tmp_path):
    whole = run(CONFIG, out=tmp_path / "a")
    broken = tmp_path / "b"
    run(CONFIG, out=broken)
    key = whole.rows[2]["cell"]
    (broken / "cells" / key / "summary.json").unlink()
    kept = (broken / "cells" / whole.rows[0]["cell"] / "summary.json").stat().st_mtime_ns
    again = run(CONFIG, out=broken, resume=True)
    assert (broken / "cells" / whole.rows[0]["cell"] / "summary.json").stat().st_mtime_ns == kept
    assert [row["per_group"] for row in again.rows] == [row["per_group"] for row in whole.rows]
    lines = (broken / "samples.jsonl").read_text().splitlines()
    slots = [(r["cell"], r["group"], r["slot"]) for r in map(json.loads, lines)]
    assert len(set(slots)) == len(slots)


def test_another_configuration_is_refused_in_the_same_folder(tmp_path):
    run(CONFIG, out=tmp_path / "a")
    with pytest.raises(ConfigError, match="another configuration"):
        run({**CONFIG, "run": {**CONFIG["run"], "seed": 1}}, out=tmp_path / "a", resume=True)


def test_a_cell_that_fails_is_recorded_and_named_in_the_page(tmp_path):
    config = {**CONFIG, "reward": "tests.runs.test_run:breaking", "sweep": {"method": ["smc"]}}
    done = run(config, out=tmp_path / "a")
    assert done.exit_code == 1
    assert "always breaks" in done.failed[0]["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methd": "smc"}, "method"),
        ({"run": {"stepps": 5}}, "steps"),
        ({"sweep": {"method": ["smcc"]}}, "smc"),
    ],
)
def test_misspelt_settings_are_errors_that_name_the_right_one(change, said):
    with pytest.raises(ConfigError, match=said):
        plan(load_config({**CONFIG, **change}))
