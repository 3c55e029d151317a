"""A network of one's own as a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from itscale.errors import ConfigError
from itscale.interpolants import VP, Linear
from itscale.models.wrapped import wrap

T = torch.tensor(0.25, dtype=torch.float64)
PLAIN = {"predicts": "velocity", "interpolant": "linear", "event_shape": (2,)}


class Affine(nn.Module):
    """``w x + t``, plus the condition where there is one; keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))
        self.seen: list = []

    def forward(self, x, t, condition=None):
        self.seen = [x, t, condition]
        raw = self.w * x + t.to(x.dtype)[:, None]
        return raw if condition is None else raw + condition[:, None]


def test_wrapped_module_is_called_with_one_time_per_row():
    module = Affine()
    raw = wrap(module, **PLAIN).predict(torch.ones(3, 2), T, None)
    assert raw.tolist() == [[2.25, 2.25]] * 3
    assert module.seen[1].shape == (3,)
    assert len([part for part in module.seen if part is not None]) == 2


def test_scalar_time_equals_time_per_row():
    model = wrap(Affine(), **PLAIN)
    x = torch.ones(3, 2)
    assert torch.equal(model.predict(x, T, None), model.predict(x, T.expand(3), None))


def test_module_is_frozen_in_evaluation():
    module = Affine()
    wrap(module, **PLAIN)
    assert not module.training
    assert not module.w.requires_grad


@pytest.mark.parametrize(
    ("network", "time"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_states_are_cast_once_at_the_border(network, time):
    module = Affine().to(network)
    raw = wrap(module, **PLAIN).predict(torch.ones(3, 2), T, None)
    assert (module.seen[0].dtype, module.seen[1].dtype, raw.dtype) == (network, time, torch.float32)


def test_function_sees_the_dtype_of_the_states():
    model = wrap(lambda x, t: x * t[:, None], **PLAIN)
    assert model.predict(torch.ones(3, 2, dtype=torch.float64), T, None).dtype == torch.float64


def test_conditions_are_stacked_and_none_becomes_the_null_condition():
    model = wrap(Affine(), **PLAIN, conditional=True, null_condition=0.0)
    assert model.encode([1.5, None]).tolist() == [1.5, 0.0]
    assert model.predict(torch.zeros(2, 2), T, model.encode([1.5, None])).tolist() == [[1.75] * 2, [0.25] * 2]


def test_guidance_of_a_wrapped_network_is_linear_in_the_weight():
    model = wrap(Affine(), **PLAIN, conditional=True, null_condition=0.0)
    x = torch.zeros(2, 2)
    raw = model.given(1.0, 3.0).predict(x, T.expand(2), None)
    torch.testing.assert_close(raw, torch.full((2, 2), 3.25))


def test_tensor_conditions_keep_their_shape():
    module = lambda x, t, condition: x + condition.mean(1, keepdim=True)  # noqa: E731
    model = wrap(module, **PLAIN, conditional=True)
    condition = model.encode([torch.ones(4), torch.zeros(4)])
    assert condition.shape == (2, 4)
    assert model.predict(torch.zeros(2, 2), T, condition).tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_defaults_follow_the_event_shape():
    def module(x, t):
        return x

    image = wrap(module, predicts="noise", interpolant=VP(), event_shape=[3, 8, 8])
    latent = wrap(module, predicts="denoised", interpolant="linear", event_shape=(4, 8, 8))
    vector = wrap(module, **PLAIN)
    assert (image.modality, latent.modality, vector.modality) == ("image", "latent", "vector")
    assert image.interpolant == VP()
    assert vector.interpolant == Linear()
    x = torch.tensor([-2.0, 0.0, 2.0])
    assert image.decode(x).tolist() == [0.0, 0.5, 1.0]
    assert vector.decode(x).tolist() == [-2.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"predicts": "speed"}, "predicts.*'speed'"),
        ({"interpolant": "linaer"}, "interpolant 'linaer'.*linear"),
        ({"event_shape": (0, 3)}, r"event_shape.*\(0, 3\)"),
        ({"event_shape": 3}, "event_shape.*3"),
        ({"event_shape": ()}, "event_shape"),
        ({"conditional": "yes"}, "conditional.*'yes'"),
        ({"null_condition": 1}, "null_condition.*conditional=True"),
        ({"decode": 3}, "decode.*3"),
        ({"modality": "sound"}, "modality 'sound'"),
    ],
)
def test_bad_settings_raise_naming_the_field(change, names):
    with pytest.raises(ConfigError, match=names):
        wrap(Affine(), **(PLAIN | change))


def test_module_that_cannot_be_called_raises():
    with pytest.raises(ConfigError, match="module must be callable"):
        wrap("network.pt", **PLAIN)


@pytest.mark.parametrize("output", [lambda x: x[:, :1], lambda x: (x,)], ids=["shape", "tuple"])
def test_output_of_another_shape_raises(output):
    model = wrap(lambda x, t: output(x), **PLAIN)
    with pytest.raises(ConfigError, match=r"shaped as x, \(3, 2\)"):
        model.predict(torch.zeros(3, 2), T, None)


def test_condition_without_a_conditional_network_raises():
    model = wrap(Affine(), **PLAIN)
    assert model.encode([None, None]) is None
    with pytest.raises(ConfigError, match="conditional=True"):
        model.encode([3])
    with pytest.raises(ConfigError, match="needs a conditional model"):
        model.given(None, 2.0)


def test_missing_null_condition_raises_with_the_fix():
    model = wrap(Affine(), **PLAIN, conditional=True)
    with pytest.raises(ConfigError, match="null_condition"):
        model.encode([None])
    with pytest.raises(ConfigError, match="null_condition"):
        model.given(1.0, 2.0)


def test_conditions_of_unlike_shapes_raise():
    model = wrap(Affine(), **PLAIN, conditional=True)
    with pytest.raises(ConfigError, match="one shape"):
        model.encode([torch.zeros(2), torch.zeros(3)])
