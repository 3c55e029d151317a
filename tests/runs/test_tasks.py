"""Tasks of a job array share one folder: the rows of one process, whatever ends when."""

from __future__ import annotations

import json
import os
import time

import pytest

from itscale.errors import ConfigError
from itscale.runs import report, run, status
from itscale.runs.lock import STALE
from itscale.runs.record import load_run
from itscale.runs.tasks import Share, read_rows
from tests.runs.test_workers import CONFIG, lines, plain

calls = {"left": None}


def limited(samples):
    """End the process, as far as a test can, once no calls are left."""
    if calls["left"] is not None:
        if calls["left"] == 0:
            raise SystemExit
        calls["left"] -= 1
    return samples[:, 0]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return run(CONFIG, out=tmp_path_factory.mktemp("one") / "run")


def task(number, count, out, config=CONFIG):
    return run(config, out=out, share=Share(number, count))


def assert_same(folder, one):
    assert plain(load_run(folder).rows) == plain(one.rows)
    for name in ("samples.jsonl", "trace.jsonl"):
        assert sorted(lines(folder, name)) == sorted(lines(one.folder, name))
    assert lines(folder, "samples.jsonl") == lines(one.folder, "samples.jsonl")


def test_tasks_together_write_what_one_process_writes(tmp_path, one):
    done = [task(number, 4, tmp_path / "a") for number in (2, 0, 3, 1)]
    assert [len(d.rows) for d in done] == [1, 2, 1, 2]
    assert_same(tmp_path / "a", one)
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["finished"] == 6
    assert not list((tmp_path / "a").rglob("*/samples.jsonl"))
    assert not list((tmp_path / "a").glob("cells/*/task"))


def test_a_task_without_cells_is_done_at_once(tmp_path):
    assert task(7, 8, tmp_path / "a").exit_code == 0


@pytest.mark.parametrize("count", [2, 3])
def test_task_that_was_killed_is_done_again_by_the_same_array_or_another(tmp_path, one, count):
    config = {**CONFIG, "reward": "tests.runs.test_tasks:limited"}
    calls["left"] = 3  # in the midst of the second cell
    with pytest.raises(SystemExit):
        task(0, 2, tmp_path / "a", config)
    calls["left"] = None
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("summary.json")}
    for number in range(count):
        task(number, count, tmp_path / "a", config)
    assert before == {p: p.stat().st_mtime_ns for p in before}
    whole = run(config, out=tmp_path / "b")
    assert_same(tmp_path / "a", whole)


def test_unfinished_arrays_are_read_and_gathered_by_whoever_goes_on(tmp_path, one):
    folder = tmp_path / "a"
    task(0, 2, folder)
    found = status(folder)
    assert (found.state, found.cells, found.finished) == ("stopped", 6, 3)
    assert len(load_run(folder).samples) == len(read_rows(folder, "samples.jsonl")) > 0
    assert report([folder]).exists()
    assert run(CONFIG, out=folder, resume=True).exit_code == 0
    assert_same(folder, one)


def test_kill_between_moving_rows_and_removing_marks_doubles_nothing(tmp_path, one, monkeypatch):
    folder = tmp_path / "a"
    task(0, 2, folder)
    monkeypatch.setattr("pathlib.Path.unlink", fail_for_marks(4))
    with pytest.raises(OSError, match="killed"):
        run(CONFIG, out=folder, resume=True)
    monkeypatch.undo()
    (folder / "lock.json").unlink(missing_ok=True)
    rows = plain(load_run(folder).samples)
    assert len(rows) == len(set(rows)) == len(plain(json.loads(x) for x in rows))
    assert run(CONFIG, out=folder, resume=True).exit_code == 0
    assert_same(folder, one)


def fail_for_marks(kept):
    """Stand in for ``Path.unlink``: fails at the second mark of a cell."""
    unlink, seen = __import__("pathlib").Path.unlink, []

    def stand_in(path, missing_ok=False):
        if path.name == "task":
            seen.append(path)
            if len(seen) == 2:
                raise OSError("killed")
        unlink(path, missing_ok=missing_ok)

    return stand_in


def test_whole_sweep_is_refused_while_a_task_is_alive_and_the_other_way_round(tmp_path):
    folder = tmp_path / "a"
    task(0, 2, folder)
    lock = json.dumps({"pid": os.getppid(), "host": os.uname().nodename})
    held = folder / "tasks" / "0000-of-0002" / "lock.json"
    held.write_text(lock)
    with pytest.raises(ConfigError, match="in use by 1 tasks of a job array"):
        run(CONFIG, out=folder, resume=True)
    assert status(folder).state == "running"
    held.unlink()
    (folder / "lock.json").write_text(lock)
    with pytest.raises(ConfigError, match="which computes all cells"):
        task(1, 2, folder)


def test_requeued_job_takes_over_its_own_lock_from_another_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    held = tmp_path / "a" / "tasks" / "0000-of-0002" / "lock.json"
    held.parent.mkdir(parents=True)
    held.write_text(json.dumps({"pid": 1, "host": "another", "job": "78.0"}))
    with pytest.raises(ConfigError, match="in use by process 1 on another"):
        task(0, 2, tmp_path / "a")
    held.write_text(json.dumps({"pid": 1, "host": "another", "job": "77.0"}))
    assert task(0, 2, tmp_path / "a").exit_code == 0


def test_lock_that_another_machine_no_longer_touches_is_taken_over(tmp_path):
    (tmp_path / "a").mkdir()
    held = tmp_path / "a" / "lock.json"
    held.write_text(json.dumps({"pid": 1, "host": "another"}))
    past = time.time() - STALE / 2
    os.utime(held, (past, past))
    with pytest.raises(ConfigError, match="on another"):
        run(CONFIG, out=tmp_path / "a")
    past = time.time() - STALE * 2
    os.utime(held, (past, past))
    assert run(CONFIG, out=tmp_path / "a").exit_code == 0


def test_slurm_says_which_task_this_is(monkeypatch):
    for name, value in {"ID": 7, "MIN": 3, "COUNT": 4, "STEP": 2}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert Share.read("slurm") == Share(2, 4)
    assert Share.read("2/4") == Share(2, 4)


@pytest.mark.parametrize(("text", "said"), [("slurm", "sbatch --array"), ("3", "K/N"), ("4/4", "from 0")])
def test_what_is_no_share_is_refused(monkeypatch, text, said):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(ConfigError, match=said):
        Share.read(text)


def test_tasks_need_a_folder():
    with pytest.raises(ConfigError, match="--out"):
        run(CONFIG, share=Share(0, 2))
