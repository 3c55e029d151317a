"""``itscale advise``."""

from __future__ import annotations

import pytest

from itscale.process import SDE
from itscale.runs import load_config

ASKED = ("advise", "gaussian-mixture", "./mine.py:right", "--budget", "200", "--trajectories", "32")


def test_recipe_that_it_writes_runs_and_spends_what_it_says(itscale_command, folder, reported):
    done = itscale_command(*ASKED, "--save", "advice.yaml", "--seed", "3", "--held-out", "./mine.py:right")
    assert done.code == 0, done.stderr
    assert "loud reward" not in done.stdout
    assert "Half way the reward" in done.stdout
    assert "recipe:  advice.yaml" in done.stdout
    assert (folder / "advice.profile.json").is_file()
    told = itscale_command(*ASKED, "--seed", "3", "--held-out", "./mine.py:right", "--json").json
    ran = itscale_command("run", "advice.yaml", "--out", "out", "--json").json
    assert ran["rows"][0]["method"] == told["method"]
    assert ran["rows"][0]["nfe"] == told["nfe"]
    assert ran["rows"][0]["pilot_rows"] == 0  # the profile is there


def test_json_is_alone_and_holds_the_recipe(itscale_command, folder):
    done = itscale_command(*ASKED, "--goal", "search", "--steps", "5", "--json")
    assert done.code == 0, done.stderr
    told = done.json
    assert told["recipe"]["run"] == {"steps": 5, "tilt": told["tilt"], "seed": 0, "budget": {"nfe": 200}}
    assert told["recipe"]["reward"] == "./mine.py:right"
    assert told["log_evidence_error"] is None
    assert any("held_out" in reason for reason in told["reasons"])
    assert len(told["profile"]["correlation"]) == 5
    assert told["files"] is None


def test_options_are_read_as_in_a_file(itscale_command, folder):
    words = (
        "advise",
        "{name: gaussian-mixture, interpolant: trigonometric}",
        "[{name: './mine.py:right', weight: 2}]",
        "--process",
        "{name: sde, diffusion: sigma}",
        "--budget",
        "model_rows=200,reward_calls=150",
        "--tilt",
        "1.5",
        "--steps",
        "5",
        "--trajectories",
        "32",
        "--json",
    )
    done = itscale_command(*words)
    assert done.code == 0, done.stderr
    told = done.json
    assert told["tilt"] == 1.5
    assert told["particles"] == 30
    assert told["recipe"]["model"]["interpolant"] == "trigonometric"
    assert load_config(told["recipe"]).cells[0].process.coefficient == SDE(diffusion="sigma").coefficient
    assert told["recipe"]["run"]["budget"] == {"model_rows": 200, "reward_calls": 150}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("advise", "gaussian-mixtur", "./mine.py:right", "--budget", "200"), "'gaussian-mixture'"),
        (("advise", "gaussian-mixture", "brigtness", "--budget", "200"), "'brightness'"),
        (("advise", "gaussian-mixture", "./mine.py:right", "--budget", "nef=200"), "'nfe'"),
        (("advise", "gaussian-mixture", "./mine.py:right", "--budget", "much"), "valid integer"),
        (("advise", "gaussian-mixture", "./mine.py:right", "--budget", "seconds=5"), "seconds alone"),
        (("advise", "gaussian-mixture", "./mine.py:right", "--budget", "4"), "lower steps"),
        (("advise", "gaussian-mixture", "./mine.py:right"), "--budget"),
        ((*ASKED, "--goal", "serch"), "'search'"),
        ((*ASKED, "--process", "ode"), "needs noise"),
        ((*ASKED, "--tilt", "1", "--want", "2"), "exclude each other"),
        ((*ASKED, "--save", "advice.txt"), "ends in .yaml"),
    ],
)
def test_mistakes_are_usage_errors(itscale_command, folder, words, message):
    done = itscale_command(*words)
    assert (done.code, done.stdout) == (2, "")
    assert message in done.stderr


def test_failing_reward_is_a_failure(itscale_command, folder):
    words = ("advise", "gaussian-mixture", "./mine.py:broken", "--budget", "200", "--trajectories", "32")
    done = itscale_command(*words)
    assert done.code == 1
    assert "disk on fire" in done.stderr
