"""Posteriors of measurements that are not linear or not Gaussian, against quadrature."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.methods import DPS, LGDMC, SMC, TDS, PiGDM
from itscale.models import GaussianMixture
from itscale.operators import (
    Exposure,
    Function,
    GaussianLikelihood,
    IntervalLikelihood,
    LaplaceLikelihood,
    Mask,
    PoissonLikelihood,
    Quantise,
)

Z, GROUPS = 4.89, 120
ONE = torch.tensor([True])
MEANS, STD, WEIGHTS = (0.6, 2.0), 0.4, (0.6, 0.4)


def value(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


LIKELIHOODS = {
    "counts": PoissonLikelihood(Mask(ONE), value(3.0), 2.0),
    "clipped": GaussianLikelihood(Exposure((1,), 0.6), value(0.95), 0.3),
    "outliers": LaplaceLikelihood(Mask(ONE), value(1.1), 0.3),
    "cells": IntervalLikelihood(Mask(ONE), value(0.875), Quantise((1,), 2), 0.2),
    "squares": GaussianLikelihood(Function(lambda x: x**2, (1,)), value(1.4), 1.2),
}
METHODS = [
    SMC(particles=32),
    TDS(particles=16),
    PiGDM(particles=16, correct=True),
    DPS(particles=16, correct=True),
    LGDMC(particles=16, correct=True),
]


def exact(likelihood, means=MEANS, weights=WEIGHTS) -> tuple[float, float, float]:
    """log p(y), E[x | y] and P(x > 1 | y) by 4000 points, the ends 6 standard deviations away."""
    x = torch.linspace(min(means) - 6 * STD, max(means) + 6 * STD, 4000, dtype=torch.float64)
    log_p = torch.stack(
        [
            torch.tensor(w, dtype=torch.float64).log() + torch.distributions.Normal(m, STD).log_prob(x)
            for m, w in zip(means, weights, strict=True)
        ]
    ).logsumexp(0)
    log_joint = log_p + likelihood(x[:, None])
    log_z = float(log_joint.logsumexp(0) + (x[1] - x[0]).log())
    p = log_joint.softmax(0)
    return log_z, float((p * x).sum()), float(p[x > 1].sum())


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_weighted_methods_agree_with_quadrature(name, method):
    """Z-hat and Z-hat times weighted means are unbiased but for what ancestral steps leave of the prior."""
    likelihood = LIKELIHOODS[name]
    model = GaussianMixture(
        list(WEIGHTS), [[m] for m in MEANS], [STD, STD], dtype=torch.float64, interpolant="linear"
    )
    result = itscale.sample(
        model, reward=likelihood, method=method, steps=40, groups=GROUPS, seed=4, process=itscale.SDE(),
        solver="ancestral",
    )  # fmt: skip
    log_z, mean, share = exact(likelihood)
    ratio = (result.log_evidence - log_z).exp()
    x = result.samples[..., 0].double()
    for found, truth, allowance in (
        (ratio, 1.0, 0.05),
        (ratio * (result.weights * x).sum(1), mean, 0.05),
        (ratio * (result.weights * (x > 1)).sum(1), share, 0.03),
    ):
        assert abs(float(found.mean()) - truth) < allowance + Z * float(found.std()) / GROUPS**0.5


def test_what_a_square_does_not_tell_is_told_by_neither_mode():
    """Sign and all: with a symmetric prior x and -x are as likely, and both are found."""
    model = GaussianMixture([0.5, 0.5], [[-1.2], [1.2]], [STD, STD], dtype=torch.float64)
    likelihood = LIKELIHOODS["squares"]
    log_z, mean, _ = exact(likelihood, (-1.2, 1.2), (0.5, 0.5))
    assert mean == pytest.approx(0.0, abs=1e-9)
    result = itscale.sample(
        model, reward=likelihood, method=PiGDM(particles=16, correct=True), steps=40, groups=GROUPS, seed=4,
        process=itscale.SDE(), solver="ancestral",
    )  # fmt: skip
    share = (result.weights * (result.samples[..., 0] > 0)).sum(1)
    assert abs(float(share.mean()) - 0.5) < Z * float(share.std()) / GROUPS**0.5
    ratio = (result.log_evidence - log_z).exp()
    assert abs(float(ratio.mean()) - 1) < 0.05 + Z * float(ratio.std()) / GROUPS**0.5
