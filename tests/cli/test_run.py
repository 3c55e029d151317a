"""``itscale run``, ``demo`` and ``report`` on a model that takes milliseconds."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from itscale import runs
from itscale.models import GaussianMixture

REWARDS = """
import json, pathlib
import torch

def right(samples):
    print("loud reward")
    return samples[:, 0]

def broken(samples):
    raise OSError("disk on fire")

def stopped(samples):
    if not pathlib.Path("go-on").exists():
        raise KeyboardInterrupt
    return samples[:, 0]
"""
CONFIG = """
model: gaussian-mixture
reward: ./mine.py:right
method: {name: smc, particles: 4}
run: {steps: 2, groups: 2}
"""


@pytest.fixture(autouse=True)
def reported(monkeypatch):
    """Stand in for the report, which draws figures; returns the folders it was asked for."""
    asked = []
    monkeypatch.setitem(vars(runs), "report", lambda folders: asked.append(folders) or Path("page.html"))
    return asked


@pytest.fixture
def folder(itscale_command, tmp_path):
    """The working folder, with a configuration and rewards."""
    (tmp_path / "mine.py").write_text(REWARDS)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    return tmp_path


def test_run_prints_a_table_and_leaves_a_folder(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", "--out", "first")
    assert done.code == 0, done.stderr
    assert "smc" in done.stdout
    assert "1 of 1 cells done in" in done.stdout
    assert (folder / "first" / "config.yaml").is_file()
    assert "report: page.html" in done.stdout


def test_json_is_alone_on_stdout(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", "run.seed=3", "--json")
    assert done.code == 0, done.stderr
    assert done.json["exit_code"] == 0
    assert done.json["cells"] == len(done.json["rows"]) == 1
    assert "loud reward" in done.stderr


def test_progress_is_lines_without_escape_codes_where_nobody_looks(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", "run.steps=10")
    lines = [line for line in done.stderr.splitlines() if " % " in line]
    assert len(lines) == 10
    assert re.fullmatch(r" 50 %  cell 1/1 smc, step 5/10, best [-\d.]+, ESS \d\.\d, ETA \d+ s", lines[4])
    assert "\x1b" not in done.stdout + done.stderr


def test_dry_run_prints_origins_and_costs_and_evaluates_nothing(itscale_command, folder, monkeypatch):
    def refuse(*args):
        raise AssertionError("something was called")

    monkeypatch.setattr(GaussianMixture, "predict", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    done = itscale_command("run", "mine.yaml", "run.seed=7", "--dry-run")
    assert done.code == 0, done.stderr
    origins = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if line.strip()}
    assert origins["run.seed"] == "override"
    assert origins["run.steps"] == "mine.yaml"
    assert origins["method.ess_threshold"] == "default"
    assert "network rows" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["mine.py", "mine.yaml"]


def test_dry_run_as_json_counts_what_a_run_spends(itscale_command, folder):
    planned = itscale_command("run", "mine.yaml", "--dry-run", "--json").json
    spent = itscale_command("run", "mine.yaml", "--json").json["rows"][0]
    assert planned["total"]["cells"] == 1
    assert planned["cells"][0]["nfe"] == spent["nfe"] == 4 * 2
    assert {s["path"]: s["origin"] for s in planned["settings"]}["run.groups"] == "mine.yaml"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["quikstart"], "'quickstart'"),
        (["mine.yml"], "'mine.yaml'"),
        (["mine.yaml", "methdo=smc"], "'method'"),
        (["mine.yaml", "method.particels=8"], "'particles'"),
        (["mine.yaml", "method=smv"], "'smc'"),
        (["mine.yaml", "solver=huen"], "'heun'"),
        (["mine.yaml", "run.steps=many"], "run.steps"),
        (["mine.yaml", "run.budget.nfe=1"], "budget"),
        (["mine.yaml", "solver=heun"], "SDE"),
        (["mine.yaml", "run.steps"], "key.sub=value"),
    ],
)
def test_bad_configuration_exits_with_2_before_anything_runs(itscale_command, folder, words, shown):
    done = itscale_command("run", *words)
    assert (done.code, done.stdout) == (2, "")
    assert shown in done.stderr
    assert len(done.stderr.splitlines()) == 3
    assert not (folder / "outputs").exists()


def test_absent_extra_exits_with_2(itscale_command, folder, monkeypatch):
    from itscale.errors import missing_extra

    def load_config(source, overrides):
        raise missing_extra("rdkit", "molecules", "reward 'qed'")

    monkeypatch.setattr(runs, "load_config", load_config)
    done = itscale_command("run", "mine.yaml")
    assert done.code == 2
    assert "pip install 'itscale[molecules]'" in done.stderr


def test_run_whose_only_cell_fails_exits_with_1(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", "reward=./mine.py:broken", "--json")
    assert done.code == done.json["exit_code"] == 1
    assert "disk on fire" in done.json["failed"][0]["error"]
    assert "failed" in done.stderr


def test_run_with_some_failed_cells_exits_with_3(itscale_command, folder):
    with (folder / "mine.yaml").open("a") as file:
        file.write("sweep: {reward: ['./mine.py:right', './mine.py:broken']}\n")
    done = itscale_command("run", "mine.yaml")
    assert done.code == 3
    assert "1 of 2 cells done" in done.stdout
    assert "disk on fire" in done.stdout


def test_interrupt_exits_with_130_and_the_printed_command_goes_on(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", "reward=./mine.py:stopped", "run.seed=2")
    assert done.code == 130
    command = shlex.split(done.stderr.splitlines()[-1])
    assert command[:3] == ["itscale", "run", "mine.yaml"]
    assert "--resume" in command
    assert "run.seed=2" in command
    (folder / "go-on").touch()
    again = itscale_command(*command[1:], "--json")
    assert again.code == 0, again.stderr
    assert len(again.json["rows"]) == 1
    assert len(list((folder / "outputs").iterdir())) == 1


def test_interrupted_run_is_still_one_json_document(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", "reward=./mine.py:stopped", "--json")
    assert (done.code, done.json["interrupted"], done.json["exit_code"]) == (130, True, 130)


def test_resume_does_not_repeat_what_is_done(itscale_command, folder):
    first = itscale_command("run", "mine.yaml", "--out", "here", "--json")
    second = itscale_command("run", "mine.yaml", "--out", "here", "--resume", "--json")
    assert second.json["rows"] == first.json["rows"]
    assert "1 done before" in second.stderr
    assert "loud reward" not in second.stderr


def test_demo_is_the_quickstart_recipe(itscale_command):
    plan = itscale_command("demo", "run.steps=5", "--dry-run", "--json")
    assert plan.code == 0, plan.stderr
    assert plan.json["name"] == "quickstart"
    assert plan.json == itscale_command("run", "quickstart", "run.steps=5", "--dry-run", "--json").json


def test_report_prints_where_the_page_is(itscale_command, folder, reported):
    done = itscale_command("report", "one", "two")
    assert (done.code, done.stdout) == (0, "page.html\n")
    assert reported == [[Path("one"), Path("two")]]


def test_report_that_fails_does_not_cost_the_results(itscale_command, folder, monkeypatch):
    def fail(folders):
        raise OSError("no font")

    monkeypatch.setitem(vars(runs), "report", fail)
    done = itscale_command("run", "mine.yaml", "--json")
    assert done.code == 0
    assert done.json["report"] is None
    assert len(done.json["rows"]) == 1
    assert "no report: no font" in done.stderr


def test_interrupted_run_is_not_reported(itscale_command, folder, reported):
    itscale_command("run", "mine.yaml", "reward=./mine.py:stopped")
    assert reported == []


def test_file_may_be_json(itscale_command, folder):
    (folder / "mine.json").write_text(json.dumps({"model": "gaussian-mixture", "run": {"steps": 2}}))
    assert itscale_command("run", "mine.json", "--dry-run").code == 0
