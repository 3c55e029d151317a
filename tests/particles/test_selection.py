"""Distinct survivors and local resampling."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resampling_checks import assert_mean, families, generator, uniforms

from itscale.errors import ConfigError
from itscale.particles import (
    SCHEMES,
    log_mean_exp,
    normalise,
    select_children,
    tournament_size,
    without_duplicates,
)


def draw(w, m, rows, *seed):
    u = torch.rand(rows, tournament_size(w.shape[-1]), dtype=torch.float64, generator=generator(*seed))
    return without_duplicates(w.expand(rows, -1), m, u)


# Power: at 40,000 rows a relative bias of 1 % of a candidate kept half of the time is 2 standard errors
# per candidate; dropping max(W, c) for W, or c by one place, is off by 10 % and more.
@pytest.mark.parametrize(("n", "m"), [(2, 1), (5, 4), (12, 5), (16, 16), (37, 10)])
def test_distinct_survivors_are_unbiased(n, m):
    rows = 40_000
    for k, (family, w) in enumerate(families(n).items()):
        index, log_w = draw(w, m, rows, n, m, k)
        assert (index.diff() > 0).all() or (log_w == -math.inf).any()
        assert (index.sort(-1).values.diff() > 0).all()
        mass = torch.zeros(rows, n, dtype=torch.float64).scatter_(-1, index, log_w.exp() / m)
        seen = w > 1e-3
        assert_mean(mass[:, seen], w[seen], f"{family} {n}->{m}: weight of each candidate")
        assert_mean(mass.sum(-1), 1.0, f"{family} {n}->{m}: total")


def test_heavy_candidates_are_kept_for_certain_with_their_weight():
    w = torch.tensor([[0.05, 0.6, 0.05, 0.2, 0.1]], dtype=torch.float64)
    index, log_w = draw(w, 3, 200, 1)
    # c = 0.2: candidates 1 and 3 stay, the third place goes to 0, 2 or 4 with probability W/c.
    for row, lw in zip(index.tolist(), log_w.tolist(), strict=True):
        assert {1, 3} < set(row)
        kept = dict(zip(row, lw, strict=True))
        assert kept[1] == pytest.approx(math.log(3 * 0.6))
        assert all(kept[i] == pytest.approx(math.log(3 * 0.2)) for i in row if i != 1)


def test_thinning_has_the_least_total_variance():
    # The theorem: among unbiased ways to keep m, the sum of the variances of the new weights is least,
    # and is sum W_i^2 (1/p_i - 1) = sum_i W_i max(c - W_i, 0).
    rows, n, m = 20_000, 12, 5
    w = torch.softmax(1.5 * torch.randn(n, dtype=torch.float64, generator=generator(12)), -1)
    index, log_w = draw(w, m, rows, 2)
    thinned = torch.zeros(rows, n, dtype=torch.float64).scatter_(-1, index, log_w.exp() / m)
    scale = log_w.exp().min() / m
    expected = (w * (scale - w).clamp_min(0)).sum()
    assert_mean((thinned - w).square().sum(-1), expected, "total variance")
    for scheme in SCHEMES.values():
        if scheme.resizes:
            counts = scheme(w.expand(rows, n), m, uniforms(scheme, rows, n, m, 3))
            assert (counts / m - w).square().sum(-1).mean() > 1.2 * expected


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(0, 1) | st.sampled_from([0.0, 5e-324, 1e-300, 0.25]), min_size=1, max_size=20),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_survivors_are_always_distinct(values, share, seed):
    w = torch.tensor([values], dtype=torch.float64)
    n = len(values)
    m = max(1, round(share * n))
    index, log_w = draw(w, m, 1, seed)
    assert len(set(index[0].tolist())) == m
    assert not log_w.isnan().any()
    w = w / w.sum().clamp_min(5e-324)
    assert (w[0, index[0][log_w[0] > -math.inf]] > 0).all()
    positive = int((w > 0).sum())
    assert (log_w > -math.inf).sum() <= min(m, positive)
    if positive <= m:
        assert (log_w > -math.inf).sum() == positive


def test_equal_weights_and_dead_rows():
    index, log_w = draw(torch.full((1, 49), 1 / 49, dtype=torch.float64), 49, 3, 5)
    assert index.tolist() == [list(range(49))] * 3
    torch.testing.assert_close(log_w, torch.zeros_like(log_w), rtol=0, atol=1e-14)
    index, log_w = draw(torch.zeros(1, 4, dtype=torch.float64), 2, 1, 6)
    assert index.tolist() == [[0, 1]]
    assert (log_w == -math.inf).all()


def test_more_survivors_than_candidates_is_an_error():
    with pytest.raises(ConfigError, match="m must be from 1 to 4"):
        draw(torch.full((1, 4), 0.25, dtype=torch.float64), 5, 1, 1)


def test_children_are_drawn_in_proportion_to_their_weights():
    g, n, m = 10_000, 3, 4
    lw = torch.randn(n, m, dtype=torch.float64, generator=generator(7))
    lw[1, 2] = -math.inf
    u = torch.rand(g, n, dtype=torch.float64, generator=generator(8))
    chosen, log_mean = select_children(lw.expand(g, n, m), u)
    hit = chosen[..., None] == torch.arange(m)
    assert not hit[:, 1, 2].any()
    assert_mean(hit.double(), normalise(lw).reshape(-1), "children", torch.full((n * m,), 1e-9))
    torch.testing.assert_close(log_mean[0], log_mean_exp(lw))


def test_the_best_child_wins_and_ties_are_broken_evenly():
    lw = torch.tensor([[0.0, 2.0, 2.0, 1.0, 2.0], [3.0, 0.0, 0.0, 0.0, 0.0]])
    u = torch.rand(20_000, 2, dtype=torch.float64, generator=generator(9))
    chosen, _ = select_children(lw.expand(20_000, 2, 5), u, argmax=True)
    assert (chosen[:, 1] == 0).all()
    hit = (chosen[:, :1] == torch.arange(5)).double()
    assert_mean(hit, torch.tensor([0, 1, 1, 0, 1]) / 3, "ties", torch.full((5,), 1e-9))


def test_children_of_weight_zero():
    lw = torch.full((1, 2, 3), -math.inf)
    lw[0, 1, 2] = -5.0
    for u in (0.0, 1 - 2.0**-53):
        for argmax in (False, True):
            chosen, log_mean = select_children(lw, torch.full((1, 2), u, dtype=torch.float64), argmax)
            assert chosen[0, 1] == 2
            assert 0 <= chosen[0, 0] <= 2
            assert log_mean[0].tolist() == [-math.inf, pytest.approx(-5.0 - math.log(3))]


def test_float32_children_are_weighed_in_float64():
    lw = torch.tensor([[[0.0, 1.0, 2.0]]])
    u = torch.tensor([[0.5]], dtype=torch.float64)
    for got, expected in zip(select_children(lw, u), select_children(lw.double(), u), strict=True):
        assert torch.equal(got, expected)
