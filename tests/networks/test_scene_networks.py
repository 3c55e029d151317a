"""The scene networks: shapes, times, independence of rows, size, and the judge's target."""

from __future__ import annotations

import pytest
import torch

from itscale.networks.scene_judge import SceneJudgeNet
from itscale.networks.scene_unet import SceneUNet
from itscale.networks.unet import multiply_adds
from itscale.scenes import encode, parse, random_prompts, random_scenes


@pytest.fixture(scope="module")
def network() -> SceneUNet:
    """A network in which no layer is zero, so that every path shows."""
    generator = torch.Generator().manual_seed(0)
    network = SceneUNet().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(4, 3, 32, 32, generator=generator), torch.rand(4, generator=generator)
    return x, t, encode([None, *random_prompts(3, seed=0)])


def test_velocity_has_the_shape_of_the_image_and_starts_at_zero(network, rows):
    assert network(*rows).shape == (4, 3, 32, 32)
    assert SceneUNet()(*rows).abs().max() == 0


def test_scalar_time_equals_time_per_row(network, rows):
    x, _, prompt = rows
    one, each = network(x, torch.tensor(0.3), prompt), network(x, torch.full((4,), 0.3), prompt)
    torch.testing.assert_close(one, each)


def test_rows_do_not_depend_on_neighbours(network, rows):
    alone = torch.cat([network(*(part[i : i + 1] for part in rows)) for i in range(4)])
    torch.testing.assert_close(network(*rows), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 red circles", "3 red circles"),
        ("2 red circles", "2 red squares"),
        ("a red circle left of a blue circle", "a blue circle left of a red circle"),
        ("a red circle left of a blue circle", "1 red circle and 1 blue circle"),
    ],
)
def test_velocity_depends_on_count_kind_and_relation(network, rows, one, other):
    x, t, _ = rows
    a, b = (network(x, t, encode([parse(text)] * 4)) for text in (one, other))
    assert ((a - b).abs().amax(dim=(1, 2, 3)) > 1e-4).all()


def test_network_is_small(rows):
    network = SceneUNet()
    assert sum(p.numel() for p in network.parameters()) < 3e6
    x, t, prompt = rows
    assert 10e6 < multiply_adds(network, x[:1], t[:1], prompt[:1]) <= 60e6


def test_target_sums_to_the_counts_and_lies_at_the_centres():
    scenes = random_scenes(random_prompts(40, seed=0), seed=0)
    density = SceneJudgeNet.target(scenes.kinds, scenes.centres)
    counts = torch.tensor([prompt.counts for prompt in scenes.prompts]).float()
    torch.testing.assert_close(density.sum(dim=(2, 3)), counts)
    cells = 4 * torch.arange(8) + 2.0
    x = (density.sum(dim=(1, 2)) * cells).sum(dim=1)
    expected = (scenes.centres[..., 0] * (scenes.kinds >= 0)).sum(dim=1).float()
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-3)


def test_judge_keeps_rows_apart():
    network, x = SceneJudgeNet().eval(), torch.rand(3, 3, 32, 32)
    assert network(x).shape == (3, 12, 8, 8)
    torch.testing.assert_close(network(x[1:2]), network(x)[1:2], rtol=1e-4, atol=1e-5)
