"""The bundled scenes: weights, conditions, guidance, and samples that are what was asked for."""

from __future__ import annotations

from importlib import resources

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.interpolants import Linear
from itscale.scenes import BENCHMARK_PROMPTS, Prompt, parse
from itscale.scoring import as_reward

WEIGHTS = resources.files("itscale.networks") / "weights"
T = torch.tensor(0.4, dtype=torch.float64)


@pytest.fixture(scope="module")
def model():
    return itscale.load("scenes")


@pytest.fixture(scope="module")
def states() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_model_states_what_it_is(model):
    assert (model.predicts, model.interpolant, model.modality) == ("velocity", Linear(), "image")
    assert model.event_shape == (3, 32, 32)
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in model.network.parameters())


@pytest.mark.parametrize("name", ["scenes", "scene-judge"])
def test_shipped_files_are_small(name):
    assert len((WEIGHTS / f"{name}.safetensors").read_bytes()) <= 6e6


def test_texts_prompts_and_numbers_encode_alike(model):
    text = BENCHMARK_PROMPTS[2]
    rows = model.encode([text, parse(text), 2, None])
    assert rows.shape == (4, 37)
    assert (rows[:3] == rows[0]).all()
    assert (rows[3] == 0).all()
    assert isinstance(parse(text), Prompt)


def test_conditions_that_are_no_prompt_raise(model):
    with pytest.raises(ConfigError, match="unknown colour 'purple'"):
        model.encode(["3 purple circles"])
    with pytest.raises(ConfigError, match="is no prompt"):
        model.given(2.5)


def test_predict_returns_the_dtype_of_the_states(model, states):
    raw = model.predict(states.double(), T, model.encode([1] * 3))
    assert raw.dtype == torch.float64
    assert raw.shape == states.shape


def test_guidance_extrapolates_from_unconditional_to_conditional(model, states):
    conditional, nothing = model.predict(states, T, model.encode([4] * 3)), model.predict(states, T, None)
    guided = model.given(4, 2.0)
    assert guided.rows_per_look == 2
    torch.testing.assert_close(
        guided.predict(states, T, None), 2 * conditional - nothing, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(model.given(4).predict(states, T, None), conditional)


def test_samples_satisfy_their_prompts_as_often_as_the_card_says(model):
    prompts = list(BENCHMARK_PROMPTS) * 2
    drawn = itscale.sample(model, n=1, groups=60, condition=prompts, steps=20, seed=0)
    images = drawn.samples[:, 0]
    right = as_reward("scene-match").score(images, {"conditions": prompts}).values.mean().item()
    # 0.44 is the card's share at guidance 1; four standard errors of 60 samples
    assert abs(right - 0.44) < 4 * (0.44 * 0.56 / 60) ** 0.5
