"""Settings below something that is swept."""

import pytest

from itscale.errors import ConfigError, UnknownName
from itscale.runs import load_config

CONFIG = {
    "model": "gaussian-mixture",
    "reward": "tests.runs.test_sweeps:first_coordinate",
    "run": {"steps": 4},
    "sweep": {"method": ["smc", "svdd"]},
}


def first_coordinate(samples):
    return samples[:, 0]


def methods(config):
    return [cell.method for cell in config.cells]


def test_what_all_swept_methods_take_is_set_in_each():
    assert [m.particles for m in methods(load_config(CONFIG, ["method.particles=3"]))] == [3, 3]


def test_a_misspelt_option_is_compared_with_those_of_all_swept_methods():
    with pytest.raises(UnknownName, match=r"'method\.childrn'\. Did you mean 'children'\?.*svdd: particles"):
        load_config(CONFIG, ["method.childrn=3"])


def test_an_option_of_some_swept_methods_says_of_which_and_where_to_write_it():
    with pytest.raises(ConfigError, match=r"is an option of svdd and not of smc") as error:
        load_config(CONFIG, ["method.children=3"])
    assert "sweep.method=[smc, {name: svdd, children: ...}]" in str(error.value)
    fixed = load_config(CONFIG, ["sweep.method=[smc, {name: svdd, children: 3}]"])
    assert methods(fixed)[1].children == 3


def test_a_file_is_checked_as_an_override_is(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: quickstart\nmethod: {childrn: 3}\n")
    with pytest.raises(UnknownName, match="Did you mean 'children'"):
        load_config(path)


@pytest.mark.parametrize("text", ["{name: svdd, children: 3}", "{children: 3, name: svdd}"])
def test_naming_the_method_ends_the_sweep_whatever_the_order(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(f"recipe: quickstart\nmethod: {text}\n")
    assert {(type(m).__name__, m.children) for m in methods(load_config(path))} == {("SVDD", 3)}
