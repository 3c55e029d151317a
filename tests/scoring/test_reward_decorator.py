"""The decorator, on functions and classes, and pickling of what it makes."""

import inspect
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from itscale.errors import ConfigError, UnknownName
from itscale.scoring import Reward, RewardSpec, as_reward, reward

IMAGES = torch.full((2, 3, 4, 4), 0.25)


@reward
def bare(images):
    """The mean of an image.

    More text.
    """
    return images.mean((1, 2, 3))


@reward(name="redness", modality="image", differentiable=True)
def red(images, prompts=None):
    return images[:, 0].mean((1, 2))


@reward(name="power")
@dataclass(frozen=True)
class Power:
    exponent: float = 1.0

    def __call__(self, images):
        return images.mean((1, 2, 3)) ** self.exponent


def plain(images):
    return images.mean((1, 2, 3))


def test_bare_decorator_takes_name_and_doc_from_the_function():
    assert isinstance(bare, Reward)
    assert (bare.name, bare.spec.doc, bare.spec.modality) == ("bare", "The mean of an image.", "image")
    assert list(inspect.signature(bare).parameters) == ["images"]


def test_decorated_function_still_is_the_function():
    assert torch.equal(red(IMAGES), torch.full((2,), 0.25))
    assert torch.equal(red(IMAGES, prompts=["a", "b"]), torch.full((2,), 0.25))
    assert red.spec.name == "redness"
    assert repr(red) == "<reward redness>"


def test_decorated_class_takes_part_in_arithmetic():
    composed = 0.5 * Power(exponent=2.0) - Power()
    assert composed.name == "0.5 * power(exponent=2.0) - power"
    torch.testing.assert_close(composed.score(IMAGES).values, torch.full((2,), 0.5 * 0.0625 - 0.25))
    torch.testing.assert_close(Power(2.0)(IMAGES), torch.full((2,), 0.0625))
    assert Power(2.0) == Power(2.0)


def test_object_may_state_its_own_spec():
    class Stated:
        spec = RewardSpec(name="stated", modality="image", differentiable=True, version="2")

        def __call__(self, images):
            return images.mean((1, 2, 3))

    made = as_reward(Stated())
    assert (made.name, made.spec.version, made.gradient_ready) == ("stated", "2", True)


@pytest.mark.parametrize("value", [torch.zeros(3), np.zeros(3)])
def test_arrays_among_the_arguments_do_not_fill_the_name(value):
    @reward(name="near")
    @dataclass(frozen=True)
    class Near:
        target: object = None
        scale: float = 1.0

        def __call__(self, images):
            return images.mean((1, 2, 3))

    assert as_reward(Near(target=value)).name == "near(target=...)"
    assert as_reward(Near(scale=2.0)).name == "near(scale=2.0)"


def test_unknown_fact_is_named():
    with pytest.raises(UnknownName, match=r"'diferentiable'.*'differentiable'"):
        reward(diferentiable=True)


@pytest.mark.parametrize("facts", [{"modality": "picture"}, {"batch_size": 0}, {"floor": float("nan")}])
def test_impossible_facts_are_refused(facts):
    with pytest.raises(ConfigError):
        reward(name="r", **facts)(plain)


def test_name_by_position_is_refused():
    with pytest.raises(ConfigError, match="name="):
        reward("redness")


@pytest.mark.parametrize(
    "made",
    [red, as_reward(plain), as_reward(Power(2.0)), 2 * red - bare.clip(0, 1), red.gate(Power() > 0.1)],
    ids=["decorated", "plain", "object", "composed", "gated"],
)
def test_rewards_travel_between_processes(made):
    again = pickle.loads(pickle.dumps(made))
    torch.testing.assert_close(again.score(IMAGES).values, made.score(IMAGES).values)
    assert again.name == made.name


def test_decorated_function_is_pickled_by_name():
    assert pickle.loads(pickle.dumps(red)) is red
