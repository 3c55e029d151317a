"""A run that was stopped anywhere goes on to the rows that it would have had."""

import json

import pytest

from itscale.errors import ConfigError
from itscale.runs import CellDone, RunStarted, StepDone, run
from itscale.runs.records import append, read_lines

CONFIG = {
    "model": "gaussian-mixture",
    "reward": "tests.runs.test_resume:first_coordinate",
    "run": {"steps": 4, "groups": 2},
    "sweep": {"method": [{"name": "best-of-n", "particles": 3}, {"name": "smc", "particles": 4}]},
}
MACHINE = {"seconds", "peak_memory_bytes"}
"""What two equal runs may differ in."""

calls = {"left": None, "made": 0}


def first_coordinate(samples):
    """Stop as Ctrl-C does once no calls are left."""
    calls["made"] += 1
    if calls["left"] is not None:
        if calls["left"] == 0:
            raise KeyboardInterrupt
        calls["left"] -= 1
    return samples[:, 0]


@pytest.fixture(autouse=True)
def unlimited():
    calls.update(left=None, made=0)


@pytest.fixture
def whole(tmp_path):
    return run(CONFIG, out=tmp_path / "whole")


def without_machine(rows):
    return [{k: v for k, v in row.items() if k not in MACHINE} for row in rows]


def rows_of(folder, name):
    return without_machine(read_lines(folder / name))


def assert_same(done, whole):
    assert done.exit_code == 0
    assert without_machine(done.rows) == without_machine(whole.rows)
    for name in ("samples.jsonl", "trace.jsonl"):
        assert rows_of(done.folder, name) == rows_of(whole.folder, name)


@pytest.mark.parametrize("cut", [1, 40])
def test_a_cell_whose_last_sample_row_is_torn_runs_again(tmp_path, whole, cut):
    done = run(CONFIG, out=tmp_path / "torn")
    rows = done.folder / "samples.jsonl"
    kept = [line for line in rows.read_bytes().split(b"\n") if done.rows[0]["cell"].encode() in line]
    rows.write_bytes(rows.read_bytes()[: -1 - cut])
    first = done.folder / "cells" / done.rows[0]["cell"] / "summary.json"
    written = first.stat().st_mtime_ns
    again = run(CONFIG, out=done.folder, resume=True)
    assert_same(again, whole)
    assert first.stat().st_mtime_ns == written
    assert rows.read_bytes().split(b"\n")[: len(kept)] == kept


def test_a_row_torn_while_its_cell_was_running_is_dropped(tmp_path, whole):
    done = run(CONFIG, out=tmp_path / "torn")
    (done.folder / "cells" / done.rows[1]["cell"] / "summary.json").unlink()
    for name in ("samples.jsonl", "trace.jsonl"):
        path = done.folder / name
        path.write_bytes(path.read_bytes()[:-20])
    assert_same(run(CONFIG, out=done.folder, resume=True), whole)


def test_a_tear_within_a_character_loses_that_row_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    append(path, [{"label": "α"}, {"label": "β"}])
    text = path.read_bytes()
    path.write_bytes(text[: text.rindex("β".encode()) + 1])
    assert read_lines(path) == [{"label": "α"}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \xce\n{"a": 3}\n')
    with pytest.raises(ConfigError, match=r"rows.jsonl is damaged in line 2; remove that line"):
        read_lines(path)


@pytest.mark.parametrize("calls_before", [0, 2, 4])
def test_ctrl_c_in_a_reward_keeps_what_is_done_and_resumes_to_the_same_rows(tmp_path, whole, calls_before):
    calls.update(left=calls_before, made=0)
    stopped = run(CONFIG, out=tmp_path / "stopped")
    assert (stopped.interrupted, stopped.exit_code) == (True, 130)
    assert [row["cell"] for row in stopped.rows] == [
        row["cell"] for row in whole.rows[: min(1, calls_before)]
    ]
    assert not (stopped.folder / "lock.json").exists()
    assert json.loads((stopped.folder / "summary.json").read_text())["interrupted"] is True
    calls.update(left=None)
    assert_same(run(CONFIG, out=stopped.folder, resume=True), whole)


@pytest.mark.parametrize(
    ("kind", "index", "level"), [(RunStarted, 0, 0), (StepDone, 0, 2), (StepDone, 1, 2), (CellDone, 0, 0)]
)
def test_ctrl_c_in_a_listener_does_the_same(tmp_path, whole, kind, index, level):
    def stop(event):
        where = (getattr(event, "index", 0), getattr(event, "level", 0))
        if isinstance(event, kind) and where == (index, level):
            raise KeyboardInterrupt

    stopped = run(CONFIG, out=tmp_path / "stopped", on_event=stop)
    finished = 1 if (kind, index) in {(StepDone, 1), (CellDone, 0)} else 0
    assert (stopped.exit_code, len(stopped.rows)) == (130, finished)
    seen = []
    again = run(CONFIG, out=stopped.folder, resume=True, on_event=seen.append)
    assert_same(again, whole)
    assert sum(isinstance(event, CellDone) for event in seen) == 2 - finished
    assert seen[0].done == finished


def test_a_finished_run_is_not_computed_again(whole):
    calls.update(made=0)
    assert_same(run(CONFIG, out=whole.folder, resume=True), whole)
    assert calls["made"] == 0


def test_a_kill_before_the_configuration_was_written_leaves_a_folder_to_start_in(tmp_path, whole):
    folder = tmp_path / "early"
    (folder / "cells").mkdir(parents=True)
    (folder / "env.json").write_text("{}")
    (folder / "config.yaml.partial").write_text("model:")
    assert_same(run(CONFIG, out=folder, resume=True), whole)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="not empty and holds no run; choose another folder"):
        run(CONFIG, out=tmp_path)
