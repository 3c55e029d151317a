"""Errors: three lines and an exit code."""

from __future__ import annotations

import pytest
import typer

from itscale import errors
from itscale.cli import failures
from itscale.cli.app import app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("steps must be >= 1, got 0"), 2),
        (errors.unknown_name("method", "svd", ["svdd"], "itscale methods"), 2),
        (errors.BudgetError("the budget is too small: lower steps"), 2),
        (errors.missing_extra("rdkit", "molecules", "reward 'qed'"), 2),
        (errors.RewardError("reward 'r' failed for all 8 samples"), 1),
        (errors.NonFiniteState("step 3: 12 % of the states are NaN"), 1),
        (ValueError("[odd] thing"), 1),
        (RuntimeError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_error_has_its_exit_code_and_at_most_three_lines(error, code, capsys):
    assert failures.report_failure(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == (1 if code == 130 else 3)


@pytest.mark.parametrize(
    ("message", "what", "do"),
    [
        ("steps is 0; give at least 1. See the guide", "steps is 0", "give at least 1. See the guide"),
        ("n = 0.5 is no count. Write 1", "n = 0.5 is no count", "Write 1"),
        ("x, e.g. this, is wrong; change it", "x, e.g. this, is wrong", "change it"),
        ("run.steps is 'a': it should be an integer", "run.steps is 'a'", "it should be an integer"),
        ("two\n  lines; join\nthem", "two lines", "join them"),
    ],
)
def test_message_is_split_into_what_and_what_to_do(message, what, do):
    assert failures.three_lines(errors.ConfigError(message)) == (what, "this setting cannot work", do)


def test_message_of_one_piece_gets_general_advice():
    what, why, do = failures.three_lines(errors.BudgetError("nothing left"))
    assert (what, why) == ("nothing left", "the budget does not pay for this run")
    assert "budget" in do


def test_unexpected_error_keeps_its_text_whole():
    what, _, do = failures.three_lines(ValueError("a; b. c"))
    assert what == "ValueError: a; b. c"
    assert "--debug" in do


@pytest.mark.parametrize(
    "words", [["rewrds"], ["rewards", "--nmae"], ["run"], ["report"], ["rewards", "a", "b"]]
)
def test_bad_usage_exits_with_2_and_three_lines(itscale_command, words):
    done = itscale_command(*words)
    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (2, "", 3)


def test_unknown_command_names_the_close_ones(itscale_command):
    assert "'doctor'" in itscale_command("docter").stderr


@pytest.mark.parametrize("words", [["--debug", "rewards", "nope"], ["rewards", "nope", "--debug"]])
def test_traceback_only_with_debug(itscale_command, words):
    assert "Traceback" in itscale_command(*words).stderr
    assert "Traceback" not in itscale_command("rewards", "nope").stderr


def test_interrupt_anywhere_exits_with_130(itscale_command, monkeypatch):
    def stop(name=None):
        raise KeyboardInterrupt

    from itscale.scoring import names

    monkeypatch.setattr(names, "known_names", stop)
    assert itscale_command("rewards").code == 130


def test_no_words_and_version(itscale_command):
    assert itscale_command().code == 0
    assert "Usage" in itscale_command().stdout
    assert itscale_command("--version").stdout == "itscale 0.1.0\n"


def test_every_command_has_a_page_of_help(itscale_command):
    for command in typer.main.get_command(app).commands:
        done = itscale_command(command, "--help")
        assert (done.code, done.stderr) == (0, "")
        assert "Usage" in done.stdout


def test_a_cluster_that_does_not_answer_is_an_error_before_anything_runs(itscale_command, folder):
    done = itscale_command("run", "mine.yaml", "--pool", "127.0.0.1:1")
    assert done.code == 2
    assert "nobody answers at '127.0.0.1:1'" in done.stderr
    done = itscale_command("run", "mine.yaml", "--pool", "rya")
    assert done.code == 2
    assert "it should be 'local', 'auto' or HOST:PORT" in done.stderr
