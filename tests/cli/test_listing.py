"""``itscale rewards|methods|models|solvers|values``."""

from __future__ import annotations

import json

import pytest

from itscale.cli import extras
from itscale.methods import METHODS
from itscale.rewards import BUILT_IN
from itscale.runs import MODELS
from itscale.scoring import known_names
from itscale.solvers import ALIASES, SOLVERS
from itscale.values import VALUES

TABLES = {
    "rewards": known_names(),
    "methods": METHODS,
    "models": MODELS,
    "solvers": [*SOLVERS, *ALIASES],
    "values": VALUES,
}


@pytest.mark.parametrize("command", TABLES)
def test_table_has_every_name_and_no_colour(itscale_command, command):
    done = itscale_command(command)
    assert done.code == 0
    words = done.stdout.replace(",", " ").split()
    assert set(TABLES[command]) <= set(words)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", TABLES)
def test_page_shows_documentation_and_options(itscale_command, command):
    name, option = {
        "rewards": ("symmetry", "axis"),
        "methods": ("SVDD", "children"),
        "models": ("gaussian_mixture", "means"),
        "solvers": ("ancestral", "eta_ddim"),
        "values": ("many-sample", "inner_steps"),
    }[command]
    done = itscale_command(command, name)
    assert done.code == 0
    assert option in done.stdout
    assert "default" in done.stdout


@pytest.mark.parametrize(
    ("command", "typo", "meant"),
    [
        ("rewards", "simmetry", "symmetry"),
        ("methods", "svd", "svdd"),
        ("models", "digts", "digits"),
        ("solvers", "huen", "heun"),
        ("values", "look-ahed", "look-ahead"),
    ],
)
def test_unknown_name_is_usage_error_with_close_match(itscale_command, command, typo, meant):
    done = itscale_command(command, typo)
    assert done.code == 2
    assert done.stdout == ""
    assert f"'{meant}'" in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_alias_of_a_solver_has_the_page_of_the_solver(itscale_command):
    assert itscale_command("solvers", "em").stdout == itscale_command("solvers", "euler-maruyama").stdout


def test_json_of_the_solvers_says_what_they_are(itscale_command):
    done = itscale_command("solvers", "--json")
    listed = {entry["solver"]: entry for entry in json.loads(done.stdout)}
    assert set(listed) == set(SOLVERS)
    for name, entry in listed.items():
        solver = SOLVERS[name]()
        found = [entry[k] for k in ("order", "nfe_per_step", "history", "stochastic", "gaussian_transition")]
        assert found == [
            solver.order,
            solver.evaluations,
            solver.history,
            solver.is_stochastic,
            solver.gaussian,
        ]
        assert entry["what"]
        assert entry["solves"] == ("SDE" if solver.is_stochastic else "ODE")
    assert listed["euler-maruyama"]["aliases"] == ["em"]


def test_json_of_one_solver_has_its_options(itscale_command):
    page = json.loads(itscale_command("solvers", "UniPC", "--json").stdout)
    assert (page["solver"], page["order"], page["nfe_per_step"], page["history"]) == ("unipc", 3, 1, 2)
    assert {"option": "p", "default": "2", "type": "int"} in page["options"]
    assert json.loads(itscale_command("solvers", "em", "--json").stdout)["solver"] == "euler-maruyama"
    wrong = itscale_command("solvers", "unipcc", "--json")
    assert wrong.code == 2
    assert wrong.stdout == ""


def test_page_of_a_bundled_model_is_its_card(itscale_command, monkeypatch, tmp_path):
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "digits.md").write_text("# The card of digits")
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert "# The card of digits" in itscale_command("models", "digits").stdout


def test_every_method_states_its_cost(itscale_command):
    assert "see its page" not in itscale_command("methods").stdout


def test_absent_extra_of_a_reward_shows_the_pip_line(itscale_command, monkeypatch):
    entry = BUILT_IN["symmetry"]
    monkeypatch.setitem(BUILT_IN, "symmetry", entry._replace(facts={**entry.facts, "extra": "molecules"}))
    monkeypatch.setattr(extras, "is_present", lambda module: module != "rdkit")
    for words in (["rewards"], ["rewards", "symmetry"]):
        assert "pip install 'itscale[molecules]'" in itscale_command(*words).stdout


def test_files_of_a_learned_reward_are_listed_with_their_places(itscale_command, monkeypatch, tmp_path):
    monkeypatch.setenv("ITSCALE_WEIGHTS", str(tmp_path))
    page = itscale_command("rewards", "hps-v2").stdout
    assert "HPS_v2.1_compressed.pt" in page
    assert "xswu/HPSv2" in page
    assert "not found" in next(
        row for row in itscale_command("rewards").stdout.splitlines() if "hps-v2" in row
    )
    (tmp_path / "hps-v2").mkdir()
    (tmp_path / "hps-v2" / "HPS_v2.1_compressed.pt").touch()
    row = next(row for row in itscale_command("rewards").stdout.splitlines() if "hps-v2" in row)
    assert "not found" not in row
    assert "found" in row


def test_every_value_says_what_a_score_costs(itscale_command):
    assert "see its page" not in itscale_command("values").stdout
