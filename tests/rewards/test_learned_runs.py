"""Runs steered by learned rewards in miniature, on the bundled model of scenes."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.runs import load_config, plan
from itscale.scoring import as_reward, reward
from tests.remote.servers import served

pytestmark = pytest.mark.usefixtures("tiny_weights")

PROMPTS = ["2 red circles", "a blue square left of a green triangle"]
SMALL = {"steps": 3, "particles": 3, "groups": 2, "seed": 0, "condition": PROMPTS}


@pytest.fixture(scope="module")
def scenes():
    return itscale.load("scenes")


def test_prompts_of_the_groups_reach_steering_and_held_out_rewards(scenes):
    result = itscale.sample(
        scenes, reward="clip-score(scale=100)", held_out="image-reward", method="smc", **SMALL
    )
    for g, prompt in enumerate(PROMPTS):
        facts = {"prompts": prompt}
        steered = as_reward("clip-score(scale=100)").score(result.samples[g], facts).values
        judged = as_reward("image-reward").score(result.samples[g], facts).values
        torch.testing.assert_close(result.rewards[g].float(), steered, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(result.held_out[g].float(), judged, rtol=1e-3, atol=1e-3)


def test_gradient_of_a_learned_reward_guides(scenes):
    weighted = "2 * clip-score(scale=100) + image-reward - 0.1 * aesthetic"
    result = itscale.sample(scenes, reward=weighted, method="tds", tilt=0.5, **SMALL)
    assert result.rewards.isfinite().all()
    with pytest.raises(ConfigError, match=r"clip-score.*has none: declare"):
        itscale.sample(scenes, reward="clip-score(preprocess='pil')", method="tds", **SMALL)


def test_reward_behind_a_server_steers_alike(scenes):
    with served("clip-score(scale=100)") as server:
        options = {"method": "smc", **SMALL}
        there = itscale.sample(
            scenes, reward={"name": "http", "url": server.url, "encoding": "npy"}, **options
        )
    here = itscale.sample(scenes, reward="clip-score(scale=100)", **options)
    torch.testing.assert_close(there.samples, here.samples)
    assert there.spent.reward_calls == here.spent.reward_calls


@pytest.mark.parametrize("which", ["reward", "held_out"])
def test_run_without_texts_is_refused_before_any_network_call(which, monkeypatch):
    digits = itscale.load("digits")
    monkeypatch.setattr(
        type(digits), "velocity", lambda *a: pytest.fail("the network was called"), raising=False
    )
    given = {"reward": "ink", which: "clip-score"}
    with pytest.raises(ConfigError, match=rf"{which} 'clip-score' compares samples with a text.*condition 7"):
        itscale.sample(digits, **given, method="smc", particles=2, steps=3, condition=7)
    asking = reward(lambda images, prompts: images.mean((1, 2, 3)), modality="image", name="mine")
    with pytest.raises(ConfigError, match="'mine' compares samples with a text"):
        itscale.sample(digits, reward=asking, method="smc", particles=2, steps=3)


def test_plan_of_a_run_refuses_it_too():
    with pytest.raises(ConfigError, match="compares samples with a text"):
        plan(
            load_config(
                {"model": "digits", "reward": "clip-score", "method": {"name": "smc", "particles": 2}}
            )
        )
