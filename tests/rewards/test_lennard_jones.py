"""The Lennard-Jones cluster: its least energy, its gradient and its symmetries."""

from __future__ import annotations

import pytest
import torch

from itscale.errors import ConfigError
from itscale.rewards import LennardJones
from itscale.scoring import as_reward

FREE = LennardJones(depth=1.0, trap=0.0)


def icosahedron() -> torch.Tensor:
    """Twelve corners around a centre, (1, 13, 3), at distance 0.96 of it."""
    golden = (1 + 5**0.5) / 2
    corners = [
        corner
        for a in (-1.0, 1.0)
        for b in (-golden, golden)
        for corner in ((0.0, a, b), (a, b, 0.0), (b, 0.0, a))
    ]
    x = torch.tensor([(0.0, 0.0, 0.0), *corners], dtype=torch.float64)
    return (0.96 * x / x[1].norm())[None]


def spread(seed: int = 0, size: float = 1.5) -> torch.Tensor:
    """Five loose clusters, some pairs of which meet."""
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(5, 13, 3, generator=generator, dtype=torch.float64)


def test_least_energy_of_thirteen_points():
    """-44.326801 is the published global minimum (Wales and Doye 1997, table 1)."""
    x = icosahedron()
    for _ in range(300):
        x = x - 1e-3 * FREE.energy_and_gradient(x)[1]
    energy, gradient = FREE.energy_and_gradient(x)
    assert gradient.abs().max() < 1e-9
    assert energy.item() == pytest.approx(-44.326801, abs=1e-6)


@pytest.mark.parametrize("distance", [1.0, 1.3, 0.8])
def test_a_pair_has_its_closed_form(distance):
    x = torch.tensor([[[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]], dtype=torch.float64)
    expected = 2 * (distance**-12 - 2 * distance**-6) + 0.5 * 2 * (distance / 2) ** 2
    assert LennardJones().energy(x).item() == pytest.approx(expected, rel=1e-12)
    assert as_reward("lennard-jones(temperature=4)").raw(x, {}).item() == pytest.approx(-expected / 4)


@pytest.mark.parametrize("size", [0.4, 1.5])
def test_gradient_in_closed_form_is_that_of_autograd(size):
    reward, x = LennardJones(depth=1.3, trap=0.7), spread(size=size).requires_grad_()
    energy, gradient = reward.energy_and_gradient(x.detach())
    torch.testing.assert_close(energy, reward.energy(x.detach()))
    torch.testing.assert_close(gradient, torch.autograd.grad(reward.energy(x).sum(), x)[0])


def test_gradient_is_the_finite_difference():
    x, step = spread(1), 1e-6
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ends = [LennardJones().energy(x + sign * step * way) for sign in (1, -1)]
    slope = (LennardJones().energy_and_gradient(x)[1] * way).sum(dim=(1, 2))
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-6, atol=1e-4)


def test_energy_and_slope_are_continuous_at_the_core():
    def pair(distance):
        x = torch.tensor([[[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]], dtype=torch.float64)
        energy, gradient = FREE.energy_and_gradient(x)
        return energy.item(), gradient[0, 1, 0].item()

    for one, other in zip(pair(0.7 - 1e-9), pair(0.7 + 1e-9), strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    line = [pair(d)[0] for d in (0.1, 0.3, 0.5)]
    assert line[0] - line[1] == pytest.approx(line[1] - line[2], rel=1e-9)


def test_energy_knows_no_place_direction_or_name_of_points():
    reward, x = LennardJones(), spread(2)
    turn = torch.linalg.qr(
        torch.randn(3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    )[0]
    energy = reward.energy(x)
    for moved in (x + 5.0, x @ turn, -x, x.flip(1)):
        torch.testing.assert_close(reward.energy(moved), energy)
    _, gradient = reward.energy_and_gradient(x)
    assert gradient.sum(dim=1).abs().max() < 1e-9 * gradient.abs().max()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lennard-jones(temperature=0)", "temperature is 0; give a finite number > 0"),
        ("lennard-jones(trap=-1)", "trap is -1; give a finite number >= 0"),
        ("lennard-jones(depth='2')", "depth is '2'"),
    ],
)
def test_impossible_argument_names_field_value_and_fix(text, said):
    with pytest.raises(ConfigError, match=said):
        as_reward(text)


def test_points_are_asked_for_by_shape():
    with pytest.raises(ConfigError, match=r"scores points .* got \(2, 3\)"):
        as_reward("lennard-jones").raw(torch.zeros(2, 3), {})
