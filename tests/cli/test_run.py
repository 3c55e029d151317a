"""``itscale run``, ``demo`` and ``report`` on a model that takes milliseconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

from itscale import runs
from itscale.models import GaussianMixture


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


def test_file_may_be_json(itscale_command, folder):
    (folder / "mine.json").write_text(json.dumps({"model": "gaussian-mixture", "run": {"steps": 2}}))
    assert itscale_command("run", "mine.json", "--dry-run").code == 0
