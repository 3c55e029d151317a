"""``itscale sweep``: cells, workers, going on after an interrupt, and the status."""

from __future__ import annotations

import json
import os
import shlex

import pytest

SWEPT = ["method=best-of-n,smc", "run.seed=0,1,2"]


def sweep(command, *words, workers=1):
    return command("sweep", "mine.yaml", *words, "--workers", str(workers))


def test_overrides_with_commas_make_the_product(itscale_command, folder):
    planned = sweep(itscale_command, *SWEPT, "--dry-run", "--json")
    assert planned.code == 0, planned.stderr
    assert planned.json["total"]["cells"] == 6
    assert not (folder / "outputs").exists()
    done = sweep(itscale_command, *SWEPT, "--json")
    assert done.code == 0, done.stderr
    assert [row["label"] for row in done.json["rows"]][:2] == ["best-of-n, seed 0", "best-of-n, seed 1"]


def test_run_refuses_what_a_sweep_takes(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", *SWEPT)
    assert done.code == 2
    assert "itscale sweep" in done.stderr


def test_json_is_alone_on_stdout_with_loud_workers(itscale_command, folder, capfd):
    done = sweep(itscale_command, "run.seed=0,1", "--json", workers=2)
    assert done.code == 0, done.stderr
    assert len(done.json["rows"]) == 2
    assert "loud reward" not in done.stdout + capfd.readouterr().out


def test_interrupted_sweep_goes_on_with_the_printed_command(itscale_command, folder):
    done = sweep(itscale_command, "run.seed=0,1", "reward=./mine.py:stopped")
    assert done.code == 130
    command = shlex.split(done.stderr.splitlines()[-1])
    assert command[:2] == ["itscale", "sweep"]
    assert {"run.seed=0,1", "--workers", "--resume"} <= set(command)
    (folder / "go-on").touch()
    again = itscale_command(*command[1:], "--json")
    assert again.code == 0, again.stderr
    assert len(again.json["rows"]) == 2


def test_worker_that_is_interrupted_stops_the_sweep(itscale_command, folder):
    done = sweep(itscale_command, "run.seed=0,1", "reward=./mine.py:stopped", workers=2)
    assert done.code == 130, done.stderr


def test_some_failed_cells_exit_with_3_and_are_in_the_status(itscale_command, folder):
    done = sweep(itscale_command, "reward=./mine.py:right,./mine.py:broken", "--out", "here")
    assert done.code == 3
    status = itscale_command("sweep", "here", "--status", "--json")
    assert status.code == 0, status.stderr
    told = status.json
    assert (told["state"], told["cells"], told["finished"]) == ("stopped", 2, 1)
    assert "disk on fire" in told["failed"][0]["error"]
    assert "disk on fire" in itscale_command("sweep", "here", "--status").stdout


def test_status_finds_the_newest_folder_of_a_configuration(itscale_command, folder):
    assert sweep(itscale_command, "run.seed=0,1").code == 0
    done = itscale_command("sweep", "mine.yaml", "run.seed=0,1", "--status")
    assert done.code == 0, done.stderr
    assert "2 of 2 cells done, 0 failed; complete" in done.stdout


def test_status_of_a_sweep_under_way_counts_steps_and_what_is_left(itscale_command, folder):
    sweep(itscale_command, "run.seed=0,1,2", "--out", "here")
    here = folder / "here"
    rows = [json.loads(line) for line in (here / "trace.jsonl").read_text().splitlines()]
    kept, begun, waiting = (cell["cell"] for cell in json.loads((here / "cells.json").read_text()))
    for cell in (begun, waiting):
        (here / "cells" / cell / "summary.json").unlink()
    rows = [r for r in rows if r["cell"] == kept or (r["cell"] == begun and r["level"] == 1)]
    (here / "trace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cell": "to')
    (here / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    told = itscale_command("sweep", "here", "--status", "--json").json
    assert (told["state"], told["process"], told["finished"]) == ("running", os.getpid(), 1)
    assert told["running"] == [{"label": "smc, seed 1", "level": 1, "steps": 2}]
    assert told["seconds_left"] == pytest.approx(2 * told["seconds"])
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_folder_in_use_is_named(itscale_command, folder):
    (folder / "here").mkdir()
    (folder / "here" / "lock.json").write_text(json.dumps({"pid": os.getppid(), "host": os.uname().nodename}))
    done = sweep(itscale_command, "--out", "here")
    assert done.code == 2
    assert "here is in use by process" in done.stderr


def test_resuming_with_other_settings_says_which(itscale_command, folder):
    sweep(itscale_command, "run.seed=0,1", "--out", "here")
    done = sweep(itscale_command, "run.seed=0,1", "run.steps=3", "--out", "here", "--resume")
    assert done.code == 2
    assert "run.steps: 2 there, 3 now" in done.stderr


def test_folder_of_a_sweep_is_resumed_by_its_name(itscale_command, folder):
    first = sweep(itscale_command, *SWEPT, "--out", "here", "--json")
    again = itscale_command("sweep", "here", "--resume", "--workers", "1", "--json")
    assert again.code == 0, again.stderr
    assert again.json["rows"] == first.json["rows"]
    assert "6 done before" in again.stderr


def test_help_names_the_defaults(itscale_command):
    text = " ".join(itscale_command("sweep", "--help").stdout.replace("│", " ").split())
    for default in ("one per GPU, or per core without one", "cores divided by workers", "outputs/NAME-TIME"):
        assert default in text


def test_tasks_of_an_array_share_a_folder(itscale_command, folder):
    for number in range(2):
        done = sweep(itscale_command, "run.seed=0,1", "--array", f"{number}/2", "--out", "here", "--json")
        assert (done.code, len(done.json["rows"])) == (0, 1), done.stderr
    assert "2 of 2 cells done" in itscale_command("sweep", "here", "--status").stdout


def test_sweep_that_is_told_to_end_exits_with_75_and_goes_on(itscale_command, folder):
    (folder / "mine.py").write_text(
        "import os, signal\n\ndef ended(samples):\n"
        "    if not os.path.exists('go-on'):\n        os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    return samples[:, 0]\n"
    )
    done = sweep(itscale_command, "run.seed=0,1", "reward=./mine.py:ended", "--out", "here")
    assert done.code == 75, done.stderr
    (folder / "go-on").touch()
    again = itscale_command("sweep", "here", "--resume", "--workers", "1", "--json")
    assert (again.code, len(again.json["rows"])) == (0, 2), again.stderr


def test_gpus_without_a_cluster_are_refused(itscale_command, folder):
    done = sweep(itscale_command, "--gpus", "0.5")
    assert done.code == 2
    assert "--pool" in done.stderr
