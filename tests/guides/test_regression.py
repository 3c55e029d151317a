"""The slope that a population's guide learns: closed forms, and what it must not learn from."""

from __future__ import annotations

import pytest
import torch

from itscale.guides.regression import RIDGE, Slope

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_the_estimate_is_the_ridge_regression_of_what_the_old_slope_left():
    """By the normal equations, which invert a d x d matrix in place of an n x n one."""
    denoised, value, old = draw(3, 9, 4), draw(3, 9, seed=1), draw(3, 4, seed=2)
    found = Slope(old, torch.zeros(3, dtype=F64)).learn(denoised, value).direction
    for x, v, g, mine in zip(denoised, value, old, found, strict=True):
        a, r = x - x.mean(0), v - v.mean()
        ridge = RIDGE * a.square().sum() / 9 * torch.eye(4, dtype=F64)
        torch.testing.assert_close(mine, g + torch.linalg.solve(a.T @ a + ridge, a.T @ (r - a @ g)))


def test_an_affine_value_is_learned_and_trusted():
    """The part of the error along each direction shrinks by a factor of at most 1/2 with n >> d."""
    truth, slope = draw(2, 3, seed=99), Slope.unknown(2, 3)
    for level in range(30):
        denoised = draw(2, 40, 3, seed=level)
        slope = slope.learn(denoised, (denoised @ truth[..., None]).squeeze(-1) + 7)
    torch.testing.assert_close(slope.direction, truth, rtol=0, atol=1e-6)
    # all of it is confirmed but what 40 pairs explain by chance
    torch.testing.assert_close(slope.trust, torch.full((2,), 1 - 1 / 40, dtype=F64), rtol=0, atol=1e-6)


def test_few_particles_in_many_dimensions_add_up_over_the_levels():
    truth, slope, errors = draw(1, 100, seed=99), Slope.unknown(1, 100), []
    for level in range(60):
        denoised = draw(1, 8, 100, seed=level)
        slope = slope.learn(denoised, (denoised @ truth[..., None]).squeeze(-1))
        errors.append(float((slope.direction - truth).norm() / truth.norm()))
    # seven directions of a hundred a level, each by two thirds: 0.94 of the square of what was left
    assert errors[0] > 0.9
    assert errors[-1] < 0.2


def test_noise_is_hardly_trusted():
    """Out of sample, a slope fitted to noise explains what chance does: nothing is left on average."""
    slope, trusts = Slope.unknown(200, 4), []
    for level in range(20):
        slope = slope.learn(draw(200, 30, 4, seed=level), draw(200, 30, seed=100 + level))
        trusts.append(slope.trust)
    assert (trusts[0] == 0).all()
    assert float(torch.stack(trusts[5:]).mean()) < 0.1


def test_a_slope_is_trusted_only_as_far_as_a_population_confirms_that_it_had_not_seen():
    """The coefficient of r = c A g on A g is c, whatever the new population teaches."""
    old, denoised = draw(1, 4), draw(1, 50, 4, seed=1)
    foretold = (denoised @ old[..., None]).squeeze(-1)
    for c, expected in ((0.3, 0.3), (1.0, 1.0), (2.5, 1.0), (-1.0, 0.0)):
        found = Slope(old, torch.ones(1, dtype=F64)).learn(denoised, c * foretold).trust
        assert float(found) == pytest.approx(expected * (1 - 1 / 50))


def test_particles_without_a_value_teach_nothing():
    denoised, value = draw(1, 6, 3), draw(1, 6, seed=1)
    alone = Slope.unknown(1, 3).learn(denoised[:, :5], value[:, :5])
    broken = value.clone()
    broken[0, 5] = -torch.inf
    found = Slope.unknown(1, 3).learn(denoised, broken)
    # the ridge is an average over all particles, so 5/6 of its size
    a, r = denoised[0, :5] - denoised[0, :5].mean(0), value[0, :5] - value[0, :5].mean()
    ridge = RIDGE * a.square().sum() / 6 * torch.eye(3, dtype=F64)
    torch.testing.assert_close(found.direction[0], torch.linalg.solve(a.T @ a + ridge, a.T @ r))
    assert not torch.equal(found.direction, alone.direction)


@pytest.mark.parametrize("case", ["one particle", "alike", "alike but for rounding", "no value at all"])
def test_a_population_that_says_nothing_leaves_the_slope_as_it_was(case):
    """At pure noise all denoised samples are alike, and what rounding leaves must not be divided by."""
    old = Slope(draw(1, 3, seed=2), torch.ones(1, dtype=F64))
    denoised, value = draw(1, 5, 3), draw(1, 5, seed=1)
    if case == "one particle":
        denoised, value = denoised[:, :1], value[:, :1]
    elif case == "no value at all":
        value = torch.full_like(value, -torch.inf)
    else:
        blur = 1e-7 if case == "alike but for rounding" else 0.0
        denoised = denoised[:, :1] + blur * denoised
        value = value[:, :1] + blur * value
    found = old.learn(denoised, value)
    torch.testing.assert_close(found.direction, old.direction, rtol=0, atol=0.01)
