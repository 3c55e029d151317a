"""The bundled digits: weights, conditions, guidance, classifiers."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from itscale.errors import ConfigError, UnknownName
from itscale.interpolants import Linear
from itscale.models.bundled import BUNDLED, load_digits
from itscale.networks.classifiers import CLASSIFIERS, load_classifier

WEIGHTS = resources.files("itscale.networks") / "weights"


@pytest.fixture(scope="module")
def model():
    return load_digits()


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    """Held-out digits as images in [0, 1] with their labels."""
    with resources.as_file(WEIGHTS / "digits-sample.safetensors") as path:
        tensors = load_file(path)
    return tensors["images"].float() / 255, tensors["labels"].long()


@pytest.fixture(scope="module")
def states() -> torch.Tensor:
    return torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


T = torch.tensor(0.4, dtype=torch.float64)


def test_every_bundled_model_is_described():
    assert all(callable(entry.load) and entry.description for entry in BUNDLED.values())


def test_model_states_what_it_is(model):
    assert model.predicts == "velocity"
    assert model.interpolant == Linear()
    assert model.event_shape == (1, 28, 28)
    assert model.modality == "image"
    assert model.rows_per_look == 1


def test_network_is_frozen_in_evaluation_and_float32(model):
    assert not model.network.training
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in model.network.parameters())


@pytest.mark.parametrize(
    ("name", "limit"),
    [("digits", 6e6), ("digit-steer", 6e6), ("digit-judge", 6e6), ("digits-sample", 2e5)],
)
def test_shipped_files_are_small(name, limit):
    assert len((WEIGHTS / f"{name}.safetensors").read_bytes()) <= limit


def test_encode_gives_one_label_per_group(model):
    labels = model.encode([7, None, np.int64(0), torch.tensor(9)])
    assert labels.tolist() == [7, 10, 0, 9]


@pytest.mark.parametrize("condition", [11, -1, 10, "seven", 3.0, True, [3], torch.tensor([1, 2])])
def test_conditions_that_are_no_digit_raise(model, condition):
    with pytest.raises(ConfigError, match="integer 0 to 9") as error:
        model.encode([condition])
    assert repr(condition) in str(error.value)


def test_predict_returns_the_dtype_of_the_states(model, states):
    raw = model.predict(states.double(), T, model.encode([1] * 5))
    assert raw.dtype == torch.float64
    assert raw.shape == states.shape


def test_scalar_time_equals_time_per_row(model, states):
    condition = model.encode([1, 2, 3, 4, None])
    torch.testing.assert_close(
        model.predict(states, T, condition),
        model.predict(states, T.expand(5), condition),
        rtol=1e-5,
        atol=1e-5,
    )


def test_rows_do_not_depend_on_neighbours(model, states):
    condition = model.encode([1, 2, 3, 4, None])
    together = model.predict(states, T, condition)
    alone = torch.cat([model.predict(states[i : i + 1], T, condition[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_no_condition_is_the_label_for_any_digit(model, states):
    torch.testing.assert_close(
        model.predict(states, T, None), model.predict(states, T, model.encode([None] * 5))
    )


def test_guidance_one_is_conditional_and_zero_unconditional(model, states):
    conditional, nothing = model.encode([4] * 5), model.encode([None] * 5)
    one, zero = model.given(4), model.given(4, 0.0)
    assert one.rows_per_look == zero.rows_per_look == 1
    torch.testing.assert_close(one.predict(states, T, None), model.predict(states, T, conditional))
    torch.testing.assert_close(zero.predict(states, T, None), model.predict(states, T, nothing))


@pytest.mark.parametrize("t", [T, T.expand(5)], ids=["scalar", "per row"])
def test_guidance_extrapolates_from_unconditional_to_conditional(model, states, t):
    labels = [4, 0, 9, 4, 2]
    guided = model.given(None, 2.5)
    assert guided.rows_per_look == 2
    conditional = model.predict(states, t, model.encode(labels))
    nothing = model.predict(states, t, model.encode([None] * 5))
    expected = nothing + 2.5 * (conditional - nothing)
    torch.testing.assert_close(
        guided.predict(states, t, guided.encode(labels)), expected, rtol=1e-4, atol=1e-5
    )


def test_bound_condition_serves_groups_that_bring_none(model):
    assert model.given(7).encode([None, None]).tolist() == [7, 7]


def test_second_condition_on_a_bound_model_raises(model):
    with pytest.raises(ConfigError, match="already bound to 7"):
        model.given(7).encode([3])


def test_binding_a_guidance_weight_keeps_the_condition(model):
    again = model.given(7).given(None, 3.0)
    assert (again.condition, again.guidance, again.model) == (7, 3.0, model)


@pytest.mark.parametrize("guidance", [-1.0, float("nan"), float("inf"), "2", True])
def test_bad_guidance_raises(model, guidance):
    with pytest.raises(ConfigError, match="guidance must be a finite number"):
        model.given(7, guidance)


def test_binding_a_bad_condition_raises_at_once(model):
    with pytest.raises(ConfigError, match="'seven'"):
        model.given("seven")


def test_decode_gives_images_between_zero_and_one(model):
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    images = model.decode(x)
    (gradient,) = torch.autograd.grad(images.sum(), x)
    assert images.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert gradient[[0, 2, 4]].tolist() == [0.0, 0.5, 0.0]


def test_gradients_reach_the_states_through_network_and_classifier(model, states):
    x = states.clone().requires_grad_()
    denoised = x + (1 - T.float()) * model.predict(x, T, model.encode([3] * 5))
    score = load_classifier("digit-steer")(model.decode(denoised)).log_softmax(1)[:, 3]
    (gradient,) = torch.autograd.grad(score.sum(), x)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_read_held_out_digits(name, sample):
    # at a true accuracy of 99 % fewer than 96 % of 200 are right with probability 3e-4; the figure is fixed
    images, labels = sample
    right = load_classifier(name)(images).argmax(1) == labels
    assert right.float().mean() >= 0.96


def test_unknown_classifier_raises():
    with pytest.raises(UnknownName, match="digit-judge"):
        load_classifier("digit-juge")


def test_samples_are_the_digits_asked_for(model):
    # 40 samples in 12 Euler steps; at 95 % per sample fewer than 32 right has probability 6e-4
    labels = list(range(10)) * 4
    condition = model.encode(labels)
    x = torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for i in range(12):
        x = x + model.predict(x, torch.tensor(i / 12, dtype=torch.float64), condition) / 12
    found = load_classifier("digit-judge")(model.decode(x)).argmax(1)
    assert (found == torch.tensor(labels)).sum() >= 32
