"""How ``itscale run`` ends: exit codes, and going on after an interrupt."""

from __future__ import annotations

import shlex

import pytest

from itscale import runs


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["quikstart"], "'quickstart'"),
        (["mine.yml"], "'mine.yaml'"),
        (["mine.yaml", "methdo=smc"], "'method'"),
        (["mine.yaml", "method.particels=8"], "'particles'"),
        (["mine.yaml", "method=smv"], "'smc'"),
        (["quickstart", "method.childrn=3"], "'children'"),
        (["mine.yaml", "reward=symmetry"], "GaussianMixture"),
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

    def load_config(source, overrides, **options):
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


def test_interrupted_run_is_not_reported(itscale_command, folder, reported):
    itscale_command("run", "mine.yaml", "reward=./mine.py:stopped")
    assert reported == []
