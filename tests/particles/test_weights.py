"""Weights: exact values, degenerate groups and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resampling_checks import check_sanitize, generator
from scipy.special import logsumexp

from itscale.particles import (
    conditional_ess,
    effective_sample_size,
    health,
    is_dead,
    log_mean_exp,
    max_weight,
    normalise,
    perplexity,
    sanitize,
)

INF = math.inf


def test_sanitize_gives_invalid_increments_weight_zero_and_counts_them():
    check_sanitize(sanitize)


def test_sanitize_leaves_valid_increments_as_they_are():
    lw = torch.tensor([[-INF, -1e308, 0.0, 1e308]], dtype=torch.float64)
    clean, n_nan, n_pos_inf = sanitize(lw)
    assert torch.equal(clean, lw)
    assert n_nan.item() == n_pos_inf.item() == 0


def test_health_is_what_the_single_measures_say():
    lw = torch.randn(4, 7, generator=generator(3), dtype=torch.float64) * 3
    lw[1], lw[2, 1:] = -INF, -INF  # a dead group, and a lone survivor
    found = health(lw)
    for mine, measure in (
        (found.ess, effective_sample_size(lw)),
        (found.largest, normalise(lw).amax(-1)),
        (found.log_mean, log_mean_exp(lw)),
    ):
        torch.testing.assert_close(mine, measure, rtol=1e-14, atol=0)
    assert found.ess[1] == 0
    assert found.log_mean[1] == -INF


def test_values_against_numpy():
    lw = 30 * torch.randn(4, 5, 11, dtype=torch.float64, generator=generator(1))
    lw[0, 0, :4] = -INF
    x = lw.numpy()
    w = np.exp(x - logsumexp(x, axis=-1, keepdims=True))
    close = {"rtol": 1e-13, "atol": 1e-300}
    np.testing.assert_allclose(normalise(lw), w, rtol=1e-12)
    np.testing.assert_allclose(log_mean_exp(lw), logsumexp(x, axis=-1) - math.log(11), **close)
    np.testing.assert_allclose(effective_sample_size(lw), 1 / (w**2).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(max_weight(lw), w.max(-1), rtol=1e-12)
    entropy = -np.where(w > 0, w * np.log(np.where(w > 0, w, 1)), 0).sum(-1)
    np.testing.assert_allclose(perplexity(lw), np.exp(entropy), rtol=1e-12)
    d = torch.randn(4, 5, 11, generator=generator(2))
    e = np.exp(d.double().numpy())
    np.testing.assert_allclose(
        conditional_ess(lw, d), 11 * (w * e).sum(-1) ** 2 / (w * e**2).sum(-1), rtol=1e-12
    )


def test_a_dead_group_has_no_health_and_no_nan():
    lw = torch.tensor([[-INF] * 4, [0.0, 1.0, 2.0, -INF]])
    assert is_dead(lw).tolist() == [True, False]
    assert normalise(lw)[0].tolist() == [0.25] * 4
    assert log_mean_exp(lw)[0] == -INF
    for f in (effective_sample_size, perplexity, max_weight):
        assert f(lw)[0] == 0
        assert f(lw)[1] > 0
    assert conditional_ess(lw, torch.zeros(2, 4))[0] == 0


def test_an_increment_that_kills_everyone_has_conditional_ess_zero():
    lw = torch.tensor([[0.0, -INF]])
    assert conditional_ess(lw, torch.tensor([[-INF, 0.0]])).item() == 0
    assert conditional_ess(lw, torch.tensor([[1.0, -INF]])).item() == pytest.approx(2.0)


def test_extreme_log_weights_neither_overflow_nor_vanish():
    lw = torch.tensor([[1e4, 1e4 - 1.0], [-1e4, -1e4 - 1.0], [1e300, -1e300]], dtype=torch.float64)
    assert torch.equal(normalise(lw)[0], normalise(lw)[1])
    assert normalise(lw)[2].tolist() == [1.0, 0.0]
    assert effective_sample_size(lw)[2] == 1
    assert log_mean_exp(lw).isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 3, 49, 1000])
def test_equal_weights_have_full_effective_sample_size_exactly(n):
    lw = torch.full((1, n), -3.7)
    assert effective_sample_size(lw).item() == n
    assert conditional_ess(lw, torch.zeros(1, n)).item() == pytest.approx(n, rel=1e-13)
    assert perplexity(lw).item() == pytest.approx(n, rel=1e-12)


def test_one_particle_keeps_its_weight_as_evidence():
    lw = torch.tensor([[-4.0], [2.5]])
    assert log_mean_exp(lw).tolist() == [-4.0, 2.5]
    assert effective_sample_size(lw).tolist() == [1.0, 1.0]
    assert normalise(lw).tolist() == [[1.0], [1.0]]


log_weights = st.lists(st.floats(-700, 700) | st.just(-INF), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(values=log_weights)
def test_measures_stay_within_their_bounds(values):
    lw = torch.tensor([values], dtype=torch.float64)
    n, alive = len(values), bool(lw.isfinite().any())
    assert normalise(lw).sum().item() == pytest.approx(1.0, abs=1e-14 * n)
    assert alive * (1 - 1e-15) <= effective_sample_size(lw).item() <= n
    assert perplexity(lw).item() <= n * (1 + 1e-12)
    assert alive / n * (1 - 1e-12) <= max_weight(lw).item() <= 1


@settings(max_examples=100, deadline=None)
@given(values=log_weights, shift=st.floats(-500, 500))
def test_a_constant_shift_moves_only_the_mean_weight(values, shift):
    lw = torch.tensor([values], dtype=torch.float64)
    # Adding the shift rounds each log-weight by up to 1e-13.
    close = {"rtol": 1e-11, "atol": 1e-11}
    torch.testing.assert_close(log_mean_exp(lw + shift), log_mean_exp(lw) + shift, **close)
    torch.testing.assert_close(normalise(lw + shift), normalise(lw), **close)
    torch.testing.assert_close(effective_sample_size(lw + shift), effective_sample_size(lw), **close)


@settings(max_examples=50, deadline=None)
@given(
    lw=st.lists(st.floats(-20, 20), min_size=2, max_size=20),
    ell=st.lists(st.floats(-20, 20), min_size=20, max_size=20),
)
def test_conditional_ess_decreases_along_a_tempering_path(lw, ell):
    lw = torch.tensor([lw], dtype=torch.float64)
    ell = torch.tensor(ell[: lw.shape[-1]], dtype=torch.float64)
    delta = torch.linspace(0, 3, 40, dtype=torch.float64)[:, None]
    cess = conditional_ess(lw, delta * ell)
    assert (cess.diff() <= 1e-9).all()


def test_plain_ess_is_not_monotone_where_conditional_ess_is():
    # One weight of 0.9 and nine that share 0.1; the heavy one loses.
    lw = torch.tensor([0.9] + [0.1 / 9] * 9, dtype=torch.float64).log()
    ell = torch.tensor([-1.0] + [0.0] * 9, dtype=torch.float64)
    delta = torch.arange(8, dtype=torch.float64)[:, None]
    assert (
        effective_sample_size(lw + delta * ell).diff().min()
        < 0
        < effective_sample_size(lw + delta * ell).diff().max()
    )
    assert (conditional_ess(lw, delta * ell).diff() < 0).all()


def test_float32_input_equals_its_float64_cast():
    lw = 10 * torch.randn(3, 7, generator=generator(3))
    for f in (normalise, log_mean_exp, effective_sample_size, perplexity, max_weight):
        assert torch.equal(f(lw), f(lw.double()))
        assert f(lw).dtype == torch.float64
