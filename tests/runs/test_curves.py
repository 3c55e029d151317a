"""Scaling curves: units pooled over cells, paired intervals, and curves of a sweep that is not finished."""

from __future__ import annotations

import json
import random

import pytest

from itscale.runs import load_config, report, run
from itscale.runs.comparison import board
from itscale.runs.curves import curves
from itscale.runs.pooling import pool
from itscale.runs.record import load_run
from itscale.runs.schedule import Queue, in_order

CONFIG = {
    "model": "gaussian-mixture",
    "reward": "tests.runs.test_run:first_coordinate",
    "held_out": "tests.runs.test_run:first_coordinate",
    "run": {"steps": 3, "groups": 2},
    "sweep": {"method": ["best-of-n", "smc"], "run.budget.nfe": [6, 12], "run.seed": [0, 1, 2]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    done = run(CONFIG, out=tmp_path_factory.mktemp("sweep") / "a")
    assert done.exit_code == 0
    return done.folder


def test_seeds_and_groups_become_units_of_one_point(folder):
    record = load_run(folder)
    pooled = pool(record.rows)
    assert len(record.rows) == 12
    assert [len(cells) for _, cells in pooled] == [3] * 4
    row, cells = pooled[0]
    assert row["units"] == [(seed, group, "None") for seed in range(3) for group in range(2)]
    assert row["per_group"]["reward"] == [v for cell in cells for v in cell["per_group"]["reward"]]
    assert row["reward"] == pytest.approx(sum(cell["reward"] for cell in cells) / 3)
    assert sum(row["per_group"]["seconds"]) == pytest.approx(sum(cell["seconds"] for cell in cells))
    assert row["nfe"] == cells[0]["nfe"]


def test_points_are_methods_at_budgets_with_gains_over_best_of_n(folder):
    drawn = curves(board([load_run(folder)]))
    by_name = {curve.series.name: curve for curve in drawn.curves}
    assert set(by_name) == {"best-of-n", "smc"}
    assert [point.nfe for point in by_name["smc"].points] == [6, 12]
    assert drawn.units == 6
    ours, theirs = by_name["smc"].points[1], by_name["best-of-n"].points[1]
    gain = ours.gains["reward"]
    assert gain is not None
    assert gain.difference.mean == pytest.approx(ours.values["reward"].mean - theirs.values["reward"].mean)
    assert gain.difference.groups == 6
    assert theirs.gains["reward"] is None


def test_gain_is_paired_so_that_hard_units_cancel(folder):
    """Rewards that vary by 100 between units and by exactly 1 between methods have a gain of exactly 1."""
    record = load_run(folder)
    base = {(s, g): 100 * random.Random(10 * s + g).random() for s in range(3) for g in range(2)}
    for row in record.rows:
        seed, more = row["config"]["run"]["seed"], 1.0 if row["method"] == "smc" else 0.0
        row["per_group"]["reward"] = [base[seed, g] + more for g in row["groups"]]
    smc = next(c for c in curves(board([record])).curves if c.series.name == "smc")
    for point in smc.points:
        gain = point.gains["reward"]
        assert gain is not None
        assert (gain.difference.low, gain.difference.high) == pytest.approx((1.0, 1.0))
        assert point.values["reward"].high - point.values["reward"].low > 10


def test_unfinished_sweep_is_drawn_over_the_units_that_every_point_has(folder, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    record = load_run(folder)
    missing = next(r for r in record.rows if r["method"] == "smc" and r["config"]["run"]["seed"] == 1)
    summary = folder / "cells" / missing["cell"] / "summary.json"
    text = summary.read_text()
    summary.unlink()
    try:
        drawn = curves(board([load_run(folder)]))
        page = report(folder).read_text()
    finally:
        summary.write_text(text)
    assert drawn.units == 4
    for curve in drawn.curves:
        for point in curve.points:
            cells = [c for c in point.entry.cells if c["config"]["run"]["seed"] != 1]
            kept = [v for cell in cells for v in cell["per_group"]["reward"]]
            assert point.values["reward"].mean == pytest.approx(sum(kept) / 4)
    assert "Unfinished: 11 of 12 cells" in page
    assert "the 4 units" in page
    assert (folder / "scaling-seconds.png").exists()
    told = json.loads((folder / "curves.json").read_text())
    point = drawn.curves[1].points[1]
    found = next(t for t in told if (t["series"], t["nfe"]) == (drawn.curves[1].series.name, point.nfe))
    assert found["reward"] == pytest.approx(vars(point.values["reward"]))
    assert found["rival"] == "best-of-n"
    assert found["reward_gain"]["groups"] >= 4


def test_every_point_has_its_first_seed_before_any_has_its_second():
    cells = in_order(load_config(CONFIG).cells)
    assert [cell.run.seed for cell in cells] == [0] * 4 + [1] * 4 + [2] * 4


def test_worker_keeps_the_model_that_it_has_loaded():
    models = [{"name": "gaussian-mixture", "stds": [s] * 3} for s in (0.5, 0.6)]
    config = {**CONFIG, "sweep": {"run.seed": [0, 1], "model": models}}
    queue = Queue(in_order(load_config(config).cells))
    taken = [queue.take(worker) for worker in (0, 1, 0, 1, 0)]
    assert [c and c.model.options["stds"][0] for c in taken] == [0.5, 0.6, 0.5, 0.6, None]
