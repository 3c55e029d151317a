"""Wrong implementations, each of which a check must reject: a check that cannot fail proves nothing.

Every mutant is a mistake that has been made in published code, or nearly. The same check accepts the real
implementation, here or in the test file it belongs to.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from resampling_checks import (
    check_ancestors_in_place,
    check_counts,
    check_cumulative_counts_are_exact,
    check_equal_weights,
    check_extreme_inputs,
    check_resample_is_unbiased,
    check_sanitize,
)
from state_space import B, check_evidence_variance, check_unbiased, filter_particles

from itscale.particles import (
    SCHEMES,
    Always,
    Resampled,
    WhenESSBelow,
    adaptive,
    evidence_relative_variance,
    log_mean_exp,
    normalise,
    resample,
)
from itscale.particles.resampling import ancestors_sorted
from itscale.particles.schemes import _differences, _independent, cumulative


def rejected(because: str):
    return pytest.raises(AssertionError, match=because)


def mutant(name, counts):
    return replace(SCHEMES[name], counts=counts)


def test_weights_dropped_where_nothing_is_resampled():
    def dropped(mask, lw, u, scheme, aux):
        r = adaptive(mask, lw, u, scheme, aux)
        return r._replace(log_weights=torch.where(mask[:, None], r.log_weights, 0.0))

    rule = WhenESSBelow(0.5)
    check_unbiased(B, filter_particles(B, 20_000, 32, "systematic", rule), "")
    with rejected("relative evidence"):
        check_unbiased(B, filter_particles(B, 20_000, 32, "systematic", rule, step=dropped), "")


def test_increment_that_forgets_the_carried_weights():
    def mean_of_each_increment(run):
        return sum(log_mean_exp(g) for g in run.increments)

    run = filter_particles(B, 20_000, 32, "systematic", Always())
    check_unbiased(B, run, "", mean_of_each_increment)  # right as long as every step resamples
    run = filter_particles(B, 20_000, 32, "systematic", WhenESSBelow(0.5))
    with rejected("relative evidence"):
        check_unbiased(B, run, "", mean_of_each_increment)


def test_partial_resampling_without_the_correction():
    def uncorrected(mask, lw, u, scheme, aux):
        r = adaptive(mask, lw, u, scheme, aux)
        return r._replace(log_weights=torch.where(mask[:, None], 0.0, r.log_weights))

    with rejected("relative evidence"):
        check_unbiased(B, filter_particles(B, 20_000, 32, "ssp", Always(), 0.5, step=uncorrected), "")


def test_log_mean_over_the_number_of_children():
    def over_output(lw, u, scheme, m=None, aux=None):
        r = resample(lw, u, scheme, m, aux)
        return r._replace(log_evidence_increment=r.log_evidence_increment + math.log(lw.shape[-1] / m))

    with rejected("weight carried"):
        check_resample_is_unbiased(over_output, "systematic", 8, 4, None, 5_000)


def test_weights_of_the_wrong_ancestor():
    def not_gathered(lw, u, scheme, m=None, aux=None):
        r = resample(lw, u, scheme, m, aux)
        kept = (lw - aux).nan_to_num(nan=-math.inf)
        return Resampled(r.ancestors, kept, r.log_evidence_increment)

    with rejected("weight carried"):
        check_resample_is_unbiased(not_gathered, "systematic", 8, 8, 0.3, 40_000)


def test_nan_taken_as_an_average_weight():
    def nan_to_num(log_g):
        is_nan, is_pos_inf = log_g.isnan(), log_g.isposinf()
        clean = torch.nan_to_num(log_g.double(), nan=0.0, posinf=-math.inf, neginf=-math.inf)
        return clean, is_nan.sum(-1), is_pos_inf.sum(-1)

    with rejected("NaN"):
        check_sanitize(nan_to_num)


def test_residual_without_the_snap():
    def no_snap(w, m, u):
        whole = torch.floor(m * w)
        rest = m - whole.to(torch.int64).sum(-1, keepdim=True)
        return whole.to(torch.int64) + _independent(m * w - whole, rest, u)

    check_equal_weights(SCHEMES["residual"], [49], 5)
    with rejected("not kept once"):
        check_equal_weights(mutant("residual", no_snap), [49], 5)


def test_in_place_with_a_left_search():
    def left(counts):
        dead = counts == 0
        surplus = (counts - 1).clamp_min(0).cumsum(-1)
        parent = torch.searchsorted(surplus, dead.cumsum(-1) - 1, right=False)
        return torch.where(dead, parent, torch.arange(counts.shape[-1]))

    with rejected("ancestors"):
        check_ancestors_in_place(left)


def test_sorted_form_taken_for_the_in_place_form():
    with rejected("ancestors"):
        check_ancestors_in_place(lambda counts: ancestors_sorted(counts, counts.shape[-1]))


def test_last_cumulative_count_not_forced():
    def unforced(w, m, u):
        return _differences(torch.ceil(m * cumulative(w) - u))

    with rejected("do not sum"):
        check_extreme_inputs(mutant("systematic", unforced), 8)


def test_one_uniform_for_two_groups():
    def shared(w, m, u):
        return SCHEMES["systematic"].counts(w, m, u[0::2].repeat_interleave(2, 0))

    with rejected("neighbouring rows"):
        check_counts(mutant("systematic", shared), 8, 8, 20_000)


def test_stratified_with_one_uniform_for_all_strata():
    def shared(w, m, u):
        return SCHEMES["stratified"].counts(w, m, u[:, :1].expand(-1, m))

    with rejected("trace of the covariance"):
        check_counts(mutant("stratified", shared), 8, 8, 20_000)


def test_killing_with_survival_probability_w():
    def too_severe(w, m, u):
        n = w.shape[-1]
        kept = (u[:, :n] < w).to(torch.int64)
        return kept + _independent(w, n - kept.sum(-1, keepdim=True), u[:, n:])

    # Its mean is still n*W: only the variance gives it away.
    with rejected("random where nothing is undecided"):
        check_counts(mutant("killing", too_severe), 8, 8, 20_000)


def test_ssp_with_independent_rounding():
    def independent(w, m, u):
        x = m * w
        whole = torch.floor(x)
        up = torch.cat([u, u[:, :1]], -1)[:, : w.shape[-1]] < x - whole
        return (whole + up).to(torch.int64)

    with rejected("do not sum"):
        check_counts(mutant("ssp", independent), 8, 8, 2_000)


def test_ssp_that_lets_the_likelier_one_carry():
    def likelier_one_carries(w, m, u):
        return SCHEMES["ssp"].counts(w, m, torch.full_like(u, 0.5))

    with rejected("counts: mean"):
        check_counts(mutant("ssp", likelier_one_carries), 8, 8, 20_000)


def test_clipped_weights():
    def floored(w, m, u):
        w = w.clamp_min(0.02)
        return SCHEMES["stratified"].counts(w / w.sum(-1, keepdim=True), m, u)

    with rejected("counts: mean"):
        check_counts(mutant("stratified", floored), 37, 37, 20_000, only="log-normal")


def test_evidence_variance_without_centring():
    def uncentred(lw, eves, n_resamplings, scheme):
        w = normalise(lw)
        return torch.zeros_like(w).scatter_add_(-1, eves, w).square().sum(-1)

    run = filter_particles(B, 20_000, 32, "multinomial", Always())
    check_evidence_variance(evidence_relative_variance, B, run, "")
    with rejected("actual variance"):
        check_evidence_variance(uncentred, B, run, "")


def test_evidence_variance_after_systematic_resampling():
    # The reason for returning None: the estimate is wrong for other schemes than the multinomial.
    run = filter_particles(B, 20_000, 32, "systematic", Always())
    with rejected("actual variance"):
        check_evidence_variance(evidence_relative_variance, B, run, "")


@pytest.mark.slow
def test_float32_cumulative_sum_of_a_million_weights():
    def single(w, m, u):
        c = w.float().cumsum(-1)
        c = c / c[:, -1:]
        return _differences(torch.where(c == 1, float(m), torch.ceil(m * c - u.float())))

    with rejected("extended precision"):
        check_cumulative_counts_are_exact(single, 10**6)
