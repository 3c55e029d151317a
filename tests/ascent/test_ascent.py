"""The step of the optimiser, and densities that keep noises probable: against torch and against counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from itscale.ascent import BlockStatistics, Nesterov, Norm, Objective
from itscale.errors import ConfigError


def noises(rows: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(rows, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_torch(momentum, clip):
    x, optimiser = noises(3, 4), Nesterov(0.3, momentum, clip)
    theirs = [row.clone().requires_grad_() for row in x]
    sgd = [torch.optim.SGD([r], lr=0.3, momentum=momentum, nesterov=momentum > 0) for r in theirs]
    velocity = torch.zeros_like(x)
    for _ in range(5):
        gradient = -x + x.sin()
        for row, descent in zip(theirs, sgd, strict=True):
            (0.5 * row.square().sum() + row.cos().sum()).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_([row], clip)
            descent.step()
            descent.zero_grad()
        x, velocity = optimiser(x, gradient, velocity)
        # torch adds 1e-6 to the norm that it divides by
        torch.testing.assert_close(x, torch.stack([r.detach() for r in theirs]), rtol=1e-5, atol=1e-5)


def test_a_gradient_that_is_not_finite_moves_its_row_by_momentum_alone():
    x, gradient, velocity = noises(3, 4), noises(3, 4), noises(3, 4)
    gradient[1, 2] = math.nan
    moved, after = Nesterov(0.3, 0.5, 1.0)(x, gradient, velocity)
    torch.testing.assert_close(after[1], 0.5 * velocity[1])
    torch.testing.assert_close(moved[1], x[1] + 0.3 * 0.5 * after[1])
    assert moved.isfinite().all()


PENALTIES = [
    Norm(),
    BlockStatistics(2, 5),
    BlockStatistics(3, 2),
    BlockStatistics(1, 1),
    BlockStatistics(16, 3),
]


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_gradients_are_the_slopes_of_the_densities(penalty, scale):
    z, h = noises(4, 2, 8, scale=scale) + 0.4, 1e-6
    slope = torch.empty_like(z)
    for j in range(16):
        step = torch.zeros(16, dtype=torch.float64)
        step[j] = h
        ahead, behind = (penalty.log_density(z + s * step.reshape(2, 8), 7) for s in (1, -1))
        slope[:, j // 8, j % 8] = (ahead - behind) / (2 * h)
    torch.testing.assert_close(penalty.gradient(z, 7), slope, rtol=1e-5, atol=1e-7)
    objective = Objective(3.0, penalty, 0.5)
    torch.testing.assert_close(
        objective.gradient(z, torch.ones_like(z), 7), 3 + 0.5 * slope, rtol=1e-5, atol=1e-6
    )


def test_the_likeliest_length_is_that_of_normals():
    d = 50
    lengths = torch.linspace(4, 10, 601, dtype=torch.float64)
    density = Norm().log_density(lengths[:, None] * torch.ones(d, dtype=torch.float64) / math.sqrt(d))
    assert float(lengths[density.argmax()]) == pytest.approx(math.sqrt(d - 1), abs=0.01)
    # up to a constant, the logarithm of the chi density
    drop = density[100] - density[400]
    chi = (d - 1) * torch.log(lengths) - lengths**2 / 2
    torch.testing.assert_close(drop, chi[100] - chi[400])


@pytest.mark.parametrize(("entries", "block"), [(64, 2), (90, 3), (400, 1), (33, 4)])
def test_no_bound_is_below_the_share_of_normal_noises_that_reach_it(entries, block):
    """Of 4000 noises at most a share p has a bound below p, up to 4.89 standard errors."""
    statistics, n = BlockStatistics(block, 1), 4000
    blocks = noises(n, entries)[:, statistics.orders(entries, 0)[0]].unflatten(1, (-1, block))
    for log_p, _ in (statistics._mean(blocks), statistics._covariance(blocks)):
        for p in (0.5, 0.1, 0.02):
            share = float((log_p < math.log(p)).double().mean())
            assert share <= p + 4.89 * math.sqrt(p * (1 - p) / n)


def test_typical_noises_are_left_alone_and_improbable_ones_are_not():
    statistics = BlockStatistics(2, 8)
    typical = noises(50, 1000)
    assert -0.3 < float(statistics.log_density(typical).mean()) < -0.1
    for odd in (typical + 0.5, 1.3 * typical, 0.7 * typical, typical.abs() * 1.0):
        assert float(statistics.log_density(odd).max()) < -2
        better = odd + 0.01 * statistics.gradient(odd) / statistics.gradient(odd).norm(dim=1, keepdim=True)
        assert (statistics.log_density(better) > statistics.log_density(odd)).all()


def test_the_first_bound_costs_normal_pairs_an_eighth():
    """m |mean|^2 is chi-squared with two degrees: E min(0, log 2 - s / 4) = -1/8, of variance 7/64."""
    blocks = noises(20_000, 10, 2)
    log_p = BlockStatistics(2)._mean(blocks)[0].clamp(max=0)
    assert abs(float(log_p.mean()) + 1 / 8) < 4.89 * math.sqrt(7 / 64 / 20_000)


def test_a_pattern_without_a_mean_is_given_away_by_its_covariance():
    """Opposite pairs: M2 is near 1, so log p2 near ``log 2 - 250 (sqrt(2) - 1 - sqrt(2 / 500))^2 = -30``."""
    half = noises(1, 500)
    pairs = torch.stack([half, -half], dim=-1).flatten(1)
    in_order = pairs.unflatten(1, (-1, 2))
    assert float(BlockStatistics(2)._mean(in_order)[0]) > 0
    assert float(BlockStatistics(2)._covariance(in_order)[0]) < -25


def test_orders_are_permutations_anew_every_turn():
    statistics = BlockStatistics(3, 4)
    orders = statistics.orders(10, 0)
    assert orders.shape == (4, 9)
    assert all(len(set(order.tolist())) == 9 for order in orders)
    assert torch.equal(orders, statistics.orders(10, 0))
    assert not torch.equal(orders, statistics.orders(10, 1))


def test_settings_are_checked():
    wrong: list[dict[str, Any]] = [
        {"rate": 0.0},
        {"rate": math.inf},
        {"rate": 1.0, "momentum": 1.0},
        {"rate": 1.0, "clip": 0.0},
    ]
    for bad in wrong:
        with pytest.raises(ConfigError):
            Nesterov(**bad)
    for bad in ({"block": 0}, {"permutations": 0}, {"block": 1.5}):
        with pytest.raises(ConfigError):
            BlockStatistics(**bad)
