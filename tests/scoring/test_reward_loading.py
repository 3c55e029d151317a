"""Every way to say which reward is meant."""

import importlib.metadata
import sys
import textwrap

import pytest
import torch

from itscale.errors import ConfigError, MissingExtra, UnknownName
from itscale.rewards import BuiltIn, Symmetry
from itscale.scoring import Reward, as_reward, known_names, names

IMAGES = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
FILE = """
    from dataclasses import dataclass
    import itscale.scoring

    def helper(images):
        return images

    @itscale.scoring.reward(name="mine")
    def red(images, power=1):
        return images.mean((1, 2, 3)) ** power

    @dataclass
    class Shifted:
        shift: float
        def __call__(self, images):
            return images.mean((1, 2, 3)) + self.shift
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(textwrap.dedent(FILE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(given):
    return as_reward(given).score(IMAGES).values


MEAN = IMAGES.mean((1, 2, 3))


class Plain:
    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, images):
        return self.scale * images.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda images: images.mean((1, 2, 3)), MEAN),
        (Plain(2.0), 2 * MEAN),
        (Plain, MEAN),
        ("ink", MEAN),
        ("  Ink ", MEAN),
        ({"name": "ink", "weight": -0.5}, -0.5 * MEAN),
        ({"name": Plain, "scale": 3.0}, 3 * MEAN),
        (["ink", {"name": "brightness", "weight": 2}], 3 * MEAN),
        ("ink*0.5 - 0.2*brightness", 0.3 * MEAN),
    ],
)
def test_every_kind_of_object_becomes_a_reward(given, expected):
    torch.testing.assert_close(values(given), expected)


def test_reward_passes_through():
    made = as_reward("ink")
    assert as_reward(made) is made


@pytest.mark.parametrize("name", ["jpeg-compressibility", "jpeg_compressibility", "JPEG_Compressibility"])
def test_hyphens_underscores_and_case_are_equal(name):
    assert as_reward(name).name == "jpeg-compressibility"
    assert as_reward(f"2*{name.lower()} - ink").name == "2 * jpeg-compressibility - ink"


def test_arguments_arrive_and_show_in_the_name():
    for given in (
        "symmetry(axis='v')",
        {"name": "symmetry", "axis": "v"},
        Symmetry(axis="v"),
        "symmetry('v')",
    ):
        made = as_reward(given)
        assert made.name == "symmetry(axis='v')"
        torch.testing.assert_close(made.score(IMAGES).values, Symmetry(axis="v")(IMAGES))


def test_module_and_attribute(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    torch.testing.assert_close(values("my_rewards:red"), MEAN)
    torch.testing.assert_close(values("my_rewards:red(power=2)"), MEAN**2)
    torch.testing.assert_close(values({"name": "my_rewards:Shifted", "shift": 1}), MEAN + 1)
    del sys.modules["my_rewards"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("./my_rewards.py:red", MEAN),
        ("my_rewards.py:red", MEAN),
        ("my_rewards.py", MEAN),
        ({"name": "./my_rewards.py:red", "power": 2, "weight": 3}, 3 * MEAN**2),
        ("./my_rewards.py:Shifted(shift=-1)", MEAN - 1),
        ("./my_rewards.py:Shifted(-1)", MEAN - 1),
    ],
)
def test_file(folder, given, expected):
    torch.testing.assert_close(values(given), expected)


def test_absolute_path_from_elsewhere_is_loaded_once(folder, monkeypatch):
    monkeypatch.chdir("/")
    path = f"{folder}/my_rewards.py:red"
    assert as_reward(path) is as_reward(path)


def test_changed_file_is_read_again(folder):
    (folder / "other.py").write_text("def f(images): return images.sum((1, 2, 3))")
    torch.testing.assert_close(values("other.py"), IMAGES.sum((1, 2, 3)))
    (folder / "other.py").write_text("def f(images): return images.amax((1, 2, 3))  # longer")
    torch.testing.assert_close(values("other.py"), IMAGES.amax((1, 2, 3)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("my_rewards.py:rad", "there is no 'rad'.*'red'"),
        ("my_reward.py:red", "there is no file.*'my_rewards.py'"),
        ("no_such_module:red", "there is no module 'no_such_module'"),
        ("my_rewards.py:red(pover=2)", "unknown argument of reward 'mine': 'pover'.*'power'"),
        ("my_rewards.py:red(images=2)", "unknown argument of reward 'mine': 'images'"),
        ("my_rewards.py:Shifted", "needs shift"),
        ("my_rewards.py:Shifted(1, shift=2)", "'shift' twice"),
        ("my_rewards.py:Shifted(1, 2)", "takes 1 arguments, got 2"),
        ("my_rewards.py:red(2)", "by name"),
    ],
)
def test_what_is_missing_in_a_file_is_named(folder, given, said):
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        as_reward(given)


def test_file_with_several_candidates_asks_which(folder):
    (folder / "two.py").write_text("def f(images): ...\ndef g(images): ...")
    with pytest.raises(ConfigError, match=r"defines f, g; say which"):
        as_reward("two.py")


def test_failing_file_shows_its_own_error_and_is_not_kept(folder):
    (folder / "bad.py").write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            as_reward("bad.py:f")


def test_entry_point_of_another_package(monkeypatch, folder):
    monkeypatch.syspath_prepend(folder)
    point = importlib.metadata.EntryPoint("Their_Reward", "my_rewards:red", names.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: (point,))
    assert "their-reward" in known_names()
    torch.testing.assert_close(values("their-reward(power=2) + ink"), MEAN**2 + MEAN)
    del sys.modules["my_rewards"]


def test_missing_extra_is_named_with_its_install_line(monkeypatch):
    import itscale.rewards

    entry = BuiltIn("no_such_library:Qed", {"extra": "molecules"})
    monkeypatch.setitem(itscale.rewards.BUILT_IN, "qed", entry)
    monkeypatch.setattr(names, "load_reference", lambda where: __import__("no_such_library"))
    with pytest.raises(MissingExtra, match=r"pip install 'itscale\[molecules\]'"):
        as_reward("qed")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("symetry", "symmetry"),
        ("jpeg-compresibility", "jpeg-compressibility"),
        ("inc", "ink"),
        ("2*symetry", "symmetry"),
    ],
)
def test_unknown_name_names_the_nearest(name, near):
    with pytest.raises(UnknownName, match=rf"unknown reward .*'{near}'.*itscale rewards"):
        as_reward(name)


@pytest.mark.parametrize("name", ["ftp://host:8000", "", "a b", "nothing like it", "ink(", "ink +"])
def test_what_is_no_reward_gets_the_general_message(name):
    with pytest.raises(UnknownName, match=r"A reward is a name that 'itscale rewards' lists"):
        as_reward(name)


def test_misspelt_argument_names_the_nearest():
    for given in ("symmetry(axs='v')", {"name": "symmetry", "axs": "v"}):
        with pytest.raises(UnknownName, match=r"'axs'. Did you mean 'axis'"):
            as_reward(given)


@pytest.mark.parametrize(
    "given",
    [3, None, [], {"weight": 2}, {"name": "ink", "weight": "2"}, {"name": "ink", "weight": True}, object()],
)
def test_what_cannot_be_a_reward_is_refused(given):
    with pytest.raises(ConfigError):
        as_reward(given)


def test_class_without_call_is_refused():
    with pytest.raises(ConfigError, match="no __call__"):
        as_reward(type("Idle", (), {}))


def test_composed_reward_takes_no_arguments(folder):
    (folder / "sums.py").write_text("from itscale.scoring import as_reward\nboth = as_reward('ink + ink')")
    assert isinstance(as_reward("sums.py:both"), Reward)
    with pytest.raises(ConfigError, match="takes no arguments"):
        as_reward("sums.py:both(x=1)")
