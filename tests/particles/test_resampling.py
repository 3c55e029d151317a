"""Counts, ancestors, weights after resampling, rules and selection."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resampling_checks import (
    LEVEL,
    assert_mean,
    check_ancestors_in_place,
    check_ancestors_sorted,
    check_counts,
    check_cumulative_counts_are_exact,
    check_equal_weights,
    check_extreme_inputs,
    check_resample_is_unbiased,
    families,
    fractions,
    generator,
    uniforms,
)
from scipy.stats import norm

from itscale.errors import ConfigError
from itscale.particles import (
    SCHEMES,
    Always,
    At,
    Every,
    Never,
    WhenESSBelow,
    adaptive,
    ancestors,
    ancestors_in_place,
    ancestors_sorted,
    get_scheme,
    log_mean_exp,
    normalise,
    partial,
    resample,
)

ALL = list(SCHEMES)
KEEP_EQUAL = ["systematic", "ssp", "residual", "killing"]


def sizes(name: str, n: int) -> list[int]:
    return sorted({n, max(1, n // 2), 3 * n}) if SCHEMES[name].resizes else [n]


# Power: with 20,000 rows a bias of 0.056 standard deviations of a count is missed once in 1000.
@pytest.mark.parametrize("n", [1, 2, 3, 8, 37])
@pytest.mark.parametrize("name", ALL)
def test_counts_have_the_right_mean_and_variance(name, n):
    for m in sizes(name, n):
        check_counts(SCHEMES[name], n, m, rows=20_000)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "rows"), [(64, 20_000), (1000, 5_000)])
@pytest.mark.parametrize("name", ALL)
def test_counts_have_the_right_mean_and_variance_for_large_n(name, n, rows):
    for m in sizes(name, n):
        check_counts(SCHEMES[name], n, m, rows)


def test_multinomial_counts_have_the_multinomial_covariance():
    w, rows, m = families(6)["log-normal"], 40_000, 6
    counts = SCHEMES["multinomial"](w.expand(rows, 6), m, uniforms(SCHEMES["multinomial"], rows, 6, m, 1))
    d = counts - m * w
    assert_mean(d[:, :, None] * d[:, None, :], m * (w.diag() - w[:, None] * w), "multinomial covariance")


@pytest.mark.parametrize("n", [5, 8, 13])
def test_ssp_counts_are_not_positively_correlated(n):
    rows = 50_000
    for family in ("log-normal", "geometric", "zeros at both ends"):
        w = families(n)[family]
        f = fractions(w, n)
        d = SCHEMES["ssp"](w.expand(rows, n), n, uniforms(SCHEMES["ssp"], rows, n, n, n)) - n * w
        i, j = torch.triu_indices(n, n, 1)
        seen = rows * (f * (1 - f))[i] * (f * (1 - f))[j] >= 100
        product = d[:, i[seen]] * d[:, j[seen]]
        z = product.mean(0) / (product.var(0) / rows).sqrt()
        assert z.max() <= norm.isf(LEVEL / seen.sum().item())


def test_documented_variance_of_a_mean():
    # Conditional variance of (1/n) sum phi over children; reference values from 200,000 replicates.
    nw = torch.tensor([0.863, 1.762, 0.843, 0.073, 1.998, 1.004, 0.230, 1.228], dtype=torch.float64)
    w, phi, rows = nw / nw.sum(), torch.linspace(-1, 1, 8, dtype=torch.float64), 20_000
    expected = {"multinomial": 0.0543, "killing": 0.0376, "residual": 0.0217, "ssp": 0.0105}
    expected |= {"systematic": 0.0103, "stratified": 0.0028}
    for name, value in expected.items():
        counts = SCHEMES[name](w.expand(rows, 8), 8, uniforms(SCHEMES[name], rows, 8, 8, 5))
        estimate = ((counts - 8 * w) @ phi / 8).square()
        # The reference is rounded to 4 digits, 5e-5, and has an error of its own, about a third of ours.
        assert abs(estimate.mean() - value) <= 4.89 * 1.1 * estimate.std() / math.sqrt(rows) + 5e-5


@pytest.mark.parametrize("name", ALL)
def test_a_batch_equals_its_rows_bit_for_bit(name):
    scheme, n = SCHEMES[name], 37
    w = torch.softmax(torch.randn(16, n, dtype=torch.float64, generator=generator(1)), -1)
    for m in sizes(name, n):
        u = uniforms(scheme, 16, n, m, 2)
        rows = torch.cat([scheme(w[i : i + 1], m, u[i : i + 1]) for i in range(16)])
        assert torch.equal(scheme(w, m, u), rows)


@pytest.mark.parametrize("name", KEEP_EQUAL)
def test_equal_weights_keep_everyone_once(name):
    check_equal_weights(SCHEMES[name], range(1, 1025), rows=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEEP_EQUAL)
def test_equal_weights_keep_everyone_once_up_to_4096(name):
    check_equal_weights(SCHEMES[name], range(1, 4097), rows=10)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 49, 64, 1000])
@pytest.mark.parametrize("name", ALL)
def test_contract_at_extreme_inputs(name, n):
    check_extreme_inputs(SCHEMES[name], n)


@pytest.mark.slow
def test_cumulative_counts_of_a_million_particles():
    check_cumulative_counts_are_exact(SCHEMES["systematic"], 10**6)


def test_ancestors_follow_the_definitions():
    check_ancestors_in_place(ancestors_in_place)
    check_ancestors_sorted(ancestors_sorted)


def test_ancestors_in_place_when_the_size_stays():
    counts = torch.tensor([[0, 3, 0, 1]])
    assert ancestors(counts, 4).tolist() == [[1, 1, 1, 3]]
    assert ancestors(torch.tensor([[0, 0, 2, 2]]), 4).tolist() == [[2, 3, 2, 3]]
    assert ancestors(torch.tensor([[0, 0, 2, 1]]), 3).tolist() == [[2, 2, 3]]


# Power: at 40,000 rows a relative error of 1/n in one particle's weight is many standard errors.
@pytest.mark.parametrize("aux", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ALL)
def test_resampling_conserves_weighted_means(name, aux):
    for m in sizes(name, 8):
        check_resample_is_unbiased(resample, name, 8, m, aux, rows=40_000)


def test_plain_resampling_moves_the_mean_weight_into_the_evidence():
    lw = torch.randn(5, 16, dtype=torch.float64, generator=generator(4))
    r = resample(lw, uniforms(SCHEMES["systematic"], 5, 16, 16, 4))
    assert (r.log_weights == 0).all()
    assert torch.equal(r.log_evidence_increment, log_mean_exp(lw))


def test_shifted_aux_changes_nothing_that_counts():
    lw = torch.randn(3, 9, dtype=torch.float64, generator=generator(6))
    u = uniforms(SCHEMES["ssp"], 3, 9, 9, 6)
    one, two = resample(lw, u, "ssp", aux=0.5 * lw), resample(lw, u, "ssp", aux=0.5 * lw + 3.0)
    assert torch.equal(one.ancestors, two.ancestors)
    totals = [r.log_weights + r.log_evidence_increment[:, None] for r in (one, two)]
    torch.testing.assert_close(*totals, rtol=0, atol=1e-12)


@pytest.mark.parametrize("aux", [None, "partial"])
@pytest.mark.parametrize("name", ALL)
def test_a_dead_group_is_left_alone(name, aux):
    lw = torch.tensor([[-math.inf] * 5, [0.0, 1.0, -math.inf, 2.0, 3.0]])
    for m in sizes(name, 5):
        extra = None if aux is None else partial(lw, 0.5)
        r = resample(lw, uniforms(SCHEMES[name], 2, 5, m, 7), name, m=m, aux=extra)
        assert r.ancestors[0].tolist() == [i % 5 for i in range(m)]
        assert (r.log_weights[0] == -math.inf).all()
        assert r.log_evidence_increment[0] == 0
        assert not any(t.isnan().any() for t in (r.log_weights, r.log_evidence_increment))
        assert (r.ancestors[1] != 2).all()


def test_partial_resampling_never_revives_a_zero_weight():
    lw = torch.tensor([[-math.inf, 0.0, 1.0]], dtype=torch.float64)
    assert partial(lw, 0.0).tolist() == [[-math.inf, 0.0, 0.0]]
    u = uniforms(SCHEMES["multinomial"], 1, 3, 60, 1)
    r = resample(lw, u, "multinomial", m=60, aux=0.0 * lw)  # 0 * -inf is NaN
    assert (r.ancestors > 0).all()
    assert r.log_weights.isfinite().all()


def test_adaptive_resampling_touches_the_masked_groups_only():
    lw = torch.randn(6, 10, dtype=torch.float64, generator=generator(8)) * 2
    u = uniforms(SCHEMES["systematic"], 6, 10, 10, 8)
    mask = torch.tensor([True, False, False, True, True, False])
    r, full = adaptive(mask, lw, u), resample(lw, u)
    for got, drawn, kept in zip(r, full, (torch.arange(10).expand(6, 10), lw, torch.zeros(6)), strict=True):
        assert torch.equal(got[mask], drawn[mask])
        assert torch.equal(got[~mask], kept[~mask].to(got.dtype))


def test_rules():
    lw = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -50.0, -50.0, -50.0]])
    assert WhenESSBelow(0.5)(lw, 0).tolist() == [False, True]
    assert WhenESSBelow(1.0)(lw, 0).tolist() == [False, True]  # strictly below
    assert WhenESSBelow(0.0)(lw, 0).tolist() == [False, False]
    assert Always()(lw, 0).tolist() == [True, True]
    assert Never()(lw, 0).tolist() == [False, False]
    assert [Every(3)(lw, k)[0].item() for k in range(6)] == [False, False, True, False, False, True]
    assert [At([1, 4])(lw, k)[0].item() for k in range(5)] == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: WhenESSBelow(1.5), "WhenESSBelow.fraction is 1.5"),
        (lambda: WhenESSBelow(math.nan), "WhenESSBelow.fraction is nan"),
        (lambda: Every(0), "Every.k is 0"),
        (lambda: At((1, -2)), "At.steps is"),
        (lambda: At(()), "At.steps is"),
    ],
)
def test_rules_name_the_wrong_field(make, field):
    with pytest.raises(ConfigError, match=field):
        make()


def test_scheme_errors_say_what_to_do():
    w = torch.full((1, 4), 0.25, dtype=torch.float64)
    with pytest.raises(ConfigError, match="Did you mean 'systematic'"):
        get_scheme("sytematic")
    with pytest.raises(ConfigError, match="keeps n=4 particles, got m=2; use one of"):
        SCHEMES["killing"](w, 2, torch.zeros(1, 9, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"shape \(1, 3\), got \(1, 1\)"):
        SCHEMES["ssp"](w, 4, torch.zeros(1, 1, dtype=torch.float64))
    with pytest.raises(ConfigError, match="at least one"):
        SCHEMES["systematic"](w, 0, torch.zeros(1, 1, dtype=torch.float64))


# Multiples of 1/64 with shifts by integers: the sums are exact, so the answers must be equal, not close.
exact_weights = st.lists(st.integers(-400, 400).map(lambda k: k / 64), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(
    values=exact_weights,
    shift=st.integers(-1000, 1000),
    seed=st.integers(0, 2**31),
    name=st.sampled_from(ALL),
)
def test_a_constant_shift_moves_the_evidence_and_no_ancestor(values, shift, seed, name):
    lw = torch.tensor([values], dtype=torch.float64)
    u = uniforms(SCHEMES[name], 1, len(values), len(values), seed)
    one, two = resample(lw, u, name), resample(lw + shift, u, name)
    assert torch.equal(one.ancestors, two.ancestors)
    torch.testing.assert_close(two.log_evidence_increment, one.log_evidence_increment + shift)


@settings(max_examples=40, deadline=None)
@given(values=exact_weights, seed=st.integers(0, 2**31), name=st.sampled_from(ALL))
def test_float32_weights_equal_their_float64_cast(values, seed, name):
    lw = torch.tensor([values], dtype=torch.float32)
    u = uniforms(SCHEMES[name], 1, len(values), len(values), seed)
    for got, expected in zip(resample(lw, u, name), resample(lw.double(), u, name), strict=True):
        assert torch.equal(got, expected)
        assert got.dtype == expected.dtype


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-800, 800) | st.just(-math.inf), min_size=1, max_size=33),
    seed=st.integers(0, 2**31),
    name=st.sampled_from(ALL),
)
def test_only_positive_weights_have_children(values, seed, name):
    lw = torch.tensor([values], dtype=torch.float64)
    n = len(values)
    r = resample(lw, uniforms(SCHEMES[name], 1, n, n, seed), name)
    if lw.isfinite().any():
        assert (normalise(lw)[0, r.ancestors[0]] > 0).all()
        assert (r.log_weights == 0).all()
    assert r.ancestors.shape == (1, n)
    assert ((r.ancestors >= 0) & (r.ancestors < n)).all()
