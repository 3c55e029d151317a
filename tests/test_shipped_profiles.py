"""Profiles that ship with the bundled models: found when everything matches, and only then."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import itscale
from itscale.methods import CTS, Profile
from itscale.methods.profile import PROBABILITIES
from itscale.models.bundled import BUNDLED, DigitFlow
from itscale.preparation import prepare
from itscale.process import SDE
from itscale.sampling.shipped import fingerprint, shipped_profile
from itscale.scoring import as_reward


@pytest.fixture(scope="module")
def digits():
    return itscale.load("digits")


def look_up(model, reward="ink", conditions=(3, 7), process=None, **settings) -> Profile | None:
    setup = prepare(model, process=process or SDE(), steps=20, **settings)
    return shipped_profile(setup.process, as_reward(reward), conditions)


IMAGES = [name for name, entry in BUNDLED.items() if "flow" in entry.description]


@pytest.mark.parametrize("name", IMAGES)
def test_every_bundled_model_of_images_has_profiles_for_its_present_weights(name):
    """New weights need new profiles: ``python -m itscale.experiments.make_profiles``."""
    conditions = {"digits": [1], "scenes": ["2 red circles"]}[name]
    for reward in ("brightness", "contrast", "symmetry(axis='v')", "jpeg-compressibility"):
        profile = look_up(itscale.load(name), reward, conditions)
        assert profile is not None
        assert profile.reward == reward
        assert profile.source.startswith(f"shipped with {name}")
        steps = len(profile.times)
        assert steps == len(profile.spread) == len(profile.slope) == len(profile.correlation) == 50
        assert {len(row) for row in profile.quantiles} == {len(PROBABILITIES)}
        assert profile.correlation[-1] == profile.exponents()[-1] == 1
        assert profile.reward_std > 0


@pytest.mark.parametrize(
    "difference",
    [
        {"reward": lambda images: images.mean((1, 2, 3))},
        {"reward": itscale.reward(name="ink", modality="image")(lambda images: images.mean((1, 2, 3)))},
        {"reward": "symmetry(rotation=1)"},
        {"reward": "ink + contrast"},
        {"reward": "0 * ink"},
        {"conditions": (3, None)},
        {"process": SDE(interpolant="vp")},
        {"process": SDE(diffusion="sigma")},
        {"guidance": 2.0},
    ],
    ids=[
        "a function",
        "a name of ours",
        "options",
        "a sum",
        "nothing",
        "any digit",
        "path",
        "diffusion",
        "guidance",
    ],
)
def test_anything_else_finds_none(digits, difference):
    assert look_up(digits) is not None
    assert look_up(digits, **difference) is None


def test_other_weights_find_none(digits):
    mine = itscale.load("digits")
    assert fingerprint(mine.network) == fingerprint(digits.network)
    parameter = next(mine.network.parameters())
    parameter.data = parameter.data + 1e-7 * (torch.arange(parameter.numel()) == 0).reshape(parameter.shape)
    assert fingerprint(mine.network) != fingerprint(digits.network)
    assert look_up(DigitFlow(mine.network)) is None
    assert look_up(DigitFlow(itscale.load("digits").network.half())) is None


def test_a_scaled_reward_has_the_same_profile_on_its_scale(digits):
    plain, scaled = look_up(digits, "ink"), look_up(digits, "1 - 2 * (3 * ink)")
    assert scaled.slope == plain.slope
    assert scaled.reward_std == pytest.approx(6 * plain.reward_std)
    assert scaled.quantiles[30] == pytest.approx([1 - 6 * q for q in reversed(plain.quantiles[30])])


def test_it_agrees_with_a_calibration_by_hand(digits):
    """64 trajectories of 10 steps beside 320 of 50: a slope is known to about 0.1, a variance to a tenth."""
    shipped = look_up(digits, "contrast")
    own = itscale.calibrate(
        digits, "contrast", condition=[0, 3, 5, 8], groups=4, trajectories=16, steps=10, seed=1
    )
    times = torch.tensor(own.times, dtype=torch.float64)
    there = shipped.on(times)
    for name, tolerance in (("slope", 0.35), ("correlation", 0.25)):
        for k in (3, 5, 7):
            assert getattr(own, name)[k] == pytest.approx(getattr(there, name)[k], abs=tolerance)
    assert own.reward_std == pytest.approx(there.reward_std, rel=0.3)


def run(model, **settings):
    return itscale.sample(
        model, reward="ink", method=CTS(particles=4, **settings), condition=3, steps=4, tilt=5.0, seed=2
    )


def test_cts_takes_it_and_says_so(digits):
    result = run(digits)
    assert result.notes["profile"].startswith("shipped with digits")
    assert result.pilot is None
    profile = look_up(digits)
    brought = run(digits, profile=replace(profile, source=""))
    assert brought.notes["profile"] == "given"
    assert torch.equal(brought.samples, result.samples)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward": "contrast"}, "made for the reward 'ink', and this run has 'contrast'"),
        ({"process": SDE(interpolant="vp")}, r"made for the process 'Linear\(\), .*this run has 'VP"),
        ({}, None),
    ],
    ids=["reward", "process", "the same"],
)
def test_a_profile_of_something_else_is_not_used_in_silence(digits, settings, message):
    method = CTS(particles=4, profile=replace(look_up(digits), source=""))
    settings = {"reward": "ink", "condition": 3, "steps": 3, **settings}
    warnings = itscale.sample(digits, method=method, **settings).warnings
    about = [text for text in warnings if "profile" in text]
    if message is None:
        assert not about
    else:
        assert len(about) == 1
        assert re.search(message, about[0])


def test_calibration_keeps_what_it_was_made_for(digits):
    profile = itscale.calibrate(digits, "ink", condition=3, groups=1, trajectories=4, steps=3)
    assert (profile.model, profile.reward) == ("DigitFlow", "ink")
    assert profile.process == look_up(digits).process


def test_without_one_it_runs_a_pilot_and_says_so(digits):
    result = itscale.sample(
        digits,
        reward=lambda images: images.mean((1, 2, 3)),
        method=CTS(particles=4),
        condition=3,
        steps=3,
    )
    assert result.notes["profile"] == "a pilot of this run: 32 trajectories of 1 groups"
    assert result.pilot.total("nfe") == 32 * 3
