"""Products of normal laws, which are normal, without resampling; and how often and how to resample."""

from __future__ import annotations

import math

import pytest
import torch
from itscale.experiments.compose_mixtures import Truth, experts, grid

import itscale
from itscale.methods import FKC
from itscale.models import GaussianMixture
from itscale.process import SDE

N, STEPS = 3000, 300


def normal(mean, variance):
    return GaussianMixture([1.0], [mean], [math.sqrt(variance)], interpolant="vp", dtype=torch.float64)


def closed_form(parts):
    """Mean, variance and log Z of ``prod N(m_i, v_i)^(b_i)``; parts are (m, v, b)."""
    precision = sum(b / v for _, v, b in parts)
    means = (
        torch.stack([torch.tensor(m, dtype=torch.float64) * b / v for m, v, b in parts]).sum(0) / precision
    )
    d = len(means)
    log_z = d / 2 * math.log(2 * math.pi / precision)
    for m, v, b in parts:
        apart = torch.tensor(m, dtype=torch.float64) - means
        log_z -= b * (float(apart @ apart) / (2 * v) + d / 2 * math.log(2 * math.pi * v))
    return means, 1 / precision, log_z


CASES = {
    "product": [((1.0, 0.0), 0.5, 1.0), ((-1.0, 1.0), 1.0, 1.0)],
    "ratio": [((1.0, 0.0), 0.4, 1.0), ((-1.0, 1.0), 0.6, 1.0), ((0.0, 0.0), 1.2, -1.0)],
    "power": [((1.0, 1.0), 0.7, 5.0)],
}


@pytest.mark.parametrize(
    ("name", "gauge", "share"),
    [
        ("product", "gaussian", 0.4),
        ("product", "velocity-sum", 0.7),
        ("ratio", "none", 0.5),
        ("power", "gaussian", 0.9),
    ],
)
def test_products_of_normals_are_normal_with_nearly_equal_weights(name, gauge, share):
    parts = CASES[name]
    law = normal(parts[0][0], parts[0][1]) ** parts[0][2]
    for m, v, b in parts[1:]:
        law = law * normal(m, v) ** b
    done = itscale.sample(
        law.corrected(gauge=gauge),
        method=FKC(particles=N, ess_threshold=0.0),
        steps=STEPS,
        process=SDE(),
        grid=grid,
        seed=2,
    )
    mean, variance, log_z = closed_form(parts)
    x, w = done.samples[0].double(), done.weights[0]
    found = w @ x
    ess = float(1 / w.square().sum())
    squares = (x - found).square().sum(1) / 2
    spread = float(w @ squares)
    errors = (
        (w @ (w[:, None] * (x - found).square())).sqrt().max(),
        (w @ (w * (squares - spread) ** 2)).sqrt(),
    )
    # five standard errors of a ratio of means, and what 300 steps cost
    assert float((found - mean).abs().max()) < 5 * float(errors[0]) + 0.02
    assert spread == pytest.approx(variance, abs=5 * float(errors[1]) + 0.02)
    assert float(done.log_evidence[0]) == pytest.approx(log_z, abs=0.06)
    assert ess > share * N


def test_without_a_gauge_their_weights_degenerate():
    law = (normal((1.0, 0.0), 0.5) * normal((-1.0, 1.0), 1.0)).corrected(gauge="none")
    method = FKC(particles=N, ess_threshold=0.0)
    done = itscale.sample(law, method=method, steps=STEPS, process=SDE(), grid=grid, seed=2)
    assert float(1 / done.weights[0].square().sum()) < 0.1 * N


@pytest.mark.slow
def test_systematic_resampling_at_every_step_beats_multinomial():
    a, _ = experts()
    truth = Truth.of(lambda x: 3 * a.log_prob(x))
    off = {}
    for scheme in ("systematic", "multinomial"):
        method = FKC(particles=1000, ess_threshold=1.0, scheme=scheme)
        law = (a**3).corrected(gauge="none")
        done = itscale.sample(law, method=method, groups=12, steps=200, process=SDE(), grid=grid)
        distances = [truth.distance(x[:, 0], w) for x, w in zip(done.samples, done.weights, strict=True)]
        off[scheme] = sum(distances) / len(distances)
    assert off["multinomial"] > 1.25 * off["systematic"], off  # 0.118 and 0.081
