"""The digit rewards: which label is asked for, and the shape of what they see."""

import pytest
import torch
from torch import nn

from itscale.errors import ConfigError
from itscale.rewards import digit
from itscale.scoring import as_reward

IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


class Linear(nn.Module):
    """Fixed logits: class c reads pixel c of the first row."""

    def forward(self, images):
        return images[:, 0, 0, :10] * 5


@pytest.fixture
def loaded(monkeypatch):
    names = []
    digit._classifier.cache_clear()
    monkeypatch.setattr(digit, "load_classifier", lambda name: names.append(name) or Linear())
    yield names
    digit._classifier.cache_clear()


EXPECTED = (IMAGES[:, 0, 0, :10] * 5).log_softmax(1)


def test_label_given_wins_over_the_condition(loaded):
    values = as_reward("digit(label=7)").score(IMAGES, {"conditions": [1, 2, 3]}).values
    torch.testing.assert_close(values, EXPECTED[:, 7])
    assert loaded == ["digit-steer"]


@pytest.mark.parametrize(
    "conditions",
    [[1, 2, 3], torch.tensor([1, 2, 3]), list(torch.tensor([1, 2, 3]))],
    ids=["list", "tensor", "tensors"],
)
def test_each_sample_is_asked_for_its_own_condition(loaded, conditions):
    values = as_reward("digit").score(IMAGES, {"conditions": conditions}, batch_size=2).values
    torch.testing.assert_close(values, EXPECTED[[0, 1, 2], [1, 2, 3]])


def test_one_condition_serves_all(loaded):
    torch.testing.assert_close(as_reward("digit").score(IMAGES, {"conditions": 4}).values, EXPECTED[:, 4])


def test_judge_uses_the_held_out_classifier(loaded):
    as_reward("digit-judge(label=1)").score(IMAGES)
    assert loaded == ["digit-judge"]


def test_weights_are_read_once(loaded):
    for _ in range(2):
        as_reward("digit(1)").score(IMAGES, batch_size=1)
    assert loaded == ["digit-steer"]


def test_three_equal_channels_score_as_one(loaded):
    reward = as_reward("digit(label=3)")
    colour = reward.score(IMAGES.expand(-1, 3, -1, -1)).values
    torch.testing.assert_close(colour, reward.score(IMAGES).values)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, r"no digit to ask for; write digit\(label=7\)"),
        ({"conditions": [1, None, 2]}, "label is None"),
        ({"conditions": [1, 11, 2]}, "label is 11"),
        ({"conditions": "a cat"}, "label is 'a cat'"),
        ({"conditions": torch.rand(3, 5)}, "one whole number per sample"),
    ],
)
def test_condition_that_is_no_digit_is_refused(loaded, facts, said):
    with pytest.raises(ConfigError, match=said):
        as_reward("digit").score(IMAGES, facts)


def test_other_sizes_are_refused(loaded):
    with pytest.raises(ConfigError, match="28 x 28 pixels, got 32 x 32"):
        as_reward("digit(label=3)").score(torch.zeros(1, 1, 32, 32))
