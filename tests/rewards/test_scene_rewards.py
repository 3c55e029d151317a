"""The scene rewards: right on generated scenes, wrong prompts seen, and what their errors count."""

from __future__ import annotations

import pytest
import torch

from itscale.errors import ConfigError
from itscale.scenes import parse, random_prompts, random_scenes
from itscale.scoring import as_reward

STRICT = ["scene-match", "scene-judge"]


@pytest.fixture(scope="module")
def scenes():
    return random_scenes(random_prompts(400, seed=20), seed=21)


@pytest.fixture(scope="module")
def images(scenes):
    return scenes.images()


def score(name: str, images: torch.Tensor, prompts) -> torch.Tensor:
    return as_reward(name).score(images, {"conditions": prompts}).values


def test_match_is_right_on_generated_scenes(scenes, images):
    assert score("scene-match", images, list(scenes.prompts)).mean() >= 0.995


def test_judge_is_right_on_generated_scenes(scenes, images):
    # at a true share of 98 % fewer than 95 % of 400 are right with probability 2e-4; the figure is fixed
    assert score("scene-judge", images, list(scenes.prompts)).mean() >= 0.95


@pytest.mark.parametrize("name", STRICT)
def test_other_prompts_are_not_satisfied(name, scenes, images):
    others = random_prompts(400, seed=22)
    differs = torch.tensor([a.counts != b.counts for a, b in zip(scenes.prompts, others, strict=True)])
    assert differs.sum() > 380
    assert score(name, images, others)[differs].mean() <= 0.005


def test_count_is_minus_the_distance_of_the_counts(scenes, images):
    others = random_prompts(400, seed=22)
    wanted, there = (torch.tensor([p.counts for p in prompts]) for prompts in (others, scenes.prompts))
    expected = -(wanted - there).abs().sum(dim=1).float()
    assert (score("scene-count", images, others) == expected).float().mean() >= 0.995


@pytest.mark.parametrize("name", STRICT)
def test_mirror_image_breaks_the_relation_and_only_that(name):
    text = "a red triangle left of a blue circle and 2 green squares"
    images = random_scenes([parse(text)] * 50, seed=0).images()
    counts_only = "1 red triangle and 1 blue circle and 2 green squares"
    assert score(name, images, text).mean() >= 0.9
    assert score(name, images.flip(3), text).mean() <= 0.04
    assert score(name, images.flip(3), counts_only).mean() >= 0.9


def test_relation_is_the_distance_that_is_missing():
    text = "a red circle left of a blue square"
    scenes = random_scenes([parse(text)] * 30, seed=0)
    images = scenes.images()
    x = torch.tensor([[item.x for item in scenes.items(i)] for i in range(30)])
    apart = (x[:, 0] - x[:, 1]).abs().float()
    assert (score("scene-relation", images, text) == 0).all()
    # a fifth of a pixel of 32: a tenth for each centre
    torch.testing.assert_close(
        score("scene-relation", images.flip(3), text), -apart / 32, rtol=0, atol=0.2 / 32
    )
    assert (score("scene-relation", images, "a red circle left of a blue circle") == -1).all()
    assert (score("scene-relation", images, "2 red circles") == 0).all()


def test_prompt_given_wins_over_the_condition(scenes, images):
    few, text = images[:20], str(scenes.prompts[0])
    fixed = as_reward({"name": "scene-count", "prompt": text}).score(few, {"conditions": list(range(20))})
    torch.testing.assert_close(fixed.values, score("scene-count", few, text))


def test_steering_rewards_differ_from_sample_to_sample():
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (score("scene-count", images, "3 red circles") <= -3).all()
    assert (score("scene-match", images, "3 red circles") == 0).all()


@pytest.mark.parametrize("name", ["scene-count", "scene-relation", *STRICT])
def test_impossible_use_is_said(name):
    images = torch.full((2, 3, 32, 32), 0.9)
    with pytest.raises(ConfigError, match="no prompt to ask for; write"):
        as_reward(name).score(images)
    with pytest.raises(ConfigError, match="unknown colour 'purple'"):
        score(name, images, "2 purple squares")
    with pytest.raises(ConfigError, match=r"unknown shape 'squre'.*Did you mean 'square'"):
        as_reward({"name": name, "prompt": "2 red squres"})
    with pytest.raises(ConfigError, match="32 x 32 pixels, got 28 x 28"):
        score(name, images[..., :28, :28], "2 red squares")
