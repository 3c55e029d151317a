"""The digit networks: shapes, times, independence of rows, size."""

from __future__ import annotations

import pytest
import torch

from itscale.networks.classifiers import JudgeNet, SteerCNN
from itscale.networks.unet import DigitUNet, multiply_adds


@pytest.fixture(scope="module")
def network() -> DigitUNet:
    """A network in which no layer is zero, so that every path shows."""
    generator = torch.Generator().manual_seed(0)
    network = DigitUNet().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(6, 1, 28, 28, generator=generator),
        torch.rand(6, generator=generator),
        torch.tensor([0, 3, 9, 10, 10, 7]),
    )


def test_unet_keeps_the_shape_of_images(network, rows):
    assert network(*rows).shape == (6, 1, 28, 28)


def test_fresh_unet_is_zero(rows):
    assert DigitUNet()(*rows).abs().max() == 0


def test_scalar_time_equals_time_per_row(network, rows):
    x, _, label = rows
    torch.testing.assert_close(network(x, torch.tensor(0.3), label), network(x, torch.full((6,), 0.3), label))


def test_unet_depends_on_image_time_and_label(network, rows):
    x, t, label = rows
    base = network(x, t, label)
    for changed in (network(x + 0.1, t, label), network(x, t / 2, label), network(x, t, (label + 1) % 11)):
        assert ((changed - base).abs().amax(dim=(1, 2, 3)) > 1e-4).all()


def test_unet_rows_do_not_depend_on_neighbours(network, rows):
    together = network(*rows)
    alone = torch.cat([network(*(part[i : i + 1] for part in rows)) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_unet_costs_at_most_fifty_million_multiply_adds(rows):
    x, t, label = rows
    network = DigitUNet()
    one = multiply_adds(network, x[:1], t[:1], label[:1])
    assert 10e6 < one <= 50e6
    assert multiply_adds(network, x, t, label) == 6 * one


def test_multiply_adds_of_a_known_layer():
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert multiply_adds(layer, torch.zeros(2, 3, 4, 4)) == 2 * 5 * 4 * 4 * 3 * 9


@pytest.mark.parametrize("kind", [SteerCNN, JudgeNet])
def test_classifiers_return_features_and_logits_per_row(kind, rows):
    network = kind().eval()
    images = rows[0].sigmoid()
    features, logits = network.features(images), network(images)
    assert features.ndim == 2
    assert logits.shape == (6, 10)
    torch.testing.assert_close(network.head(features), logits)
    torch.testing.assert_close(network(images[2:3]), logits[2:3], rtol=1e-5, atol=1e-5)
