"""The drift and the rate of the weights against the equation that they must solve, and against each other."""

from __future__ import annotations

import math

import pytest
import torch
from itscale.experiments.compose_mixtures import experts

import itscale
from itscale.methods import FKC
from itscale.models import GaussianMixture
from itscale.process import SDE, ComposedProcess, Epsilon

PATHS = ("vp", "linear", "ve")
GAUGES = ("gaussian", "velocity-sum", "none")
POWERS = ((1.5, 0.7), (-1.0, 2.0), (2.0, 2.0), (3.0, 0.0), (lambda t: 1 + t, lambda t: 0.5 - 0.2 * t**2))
X = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)[:, None]


def composed(path, powers, diffusion="natural", gauge="gaussian"):
    a, b = experts(path)
    product = (a ** powers[0] * b ** powers[1]).corrected(gauge=gauge)
    return ComposedProcess.of(product, SDE(diffusion=diffusion))


def log_p(process, x, t):
    return process.log_prob(x, torch.as_tensor(t, dtype=torch.float64))


def slopes(function, x, h=1e-4):
    """Function, first and second derivative along the one coordinate."""
    low, here, high = function(x - h), function(x), function(x + h)
    return here, (high - low) / (2 * h), (high - 2 * here + low) / h**2


@pytest.mark.parametrize("gauge", GAUGES)
@pytest.mark.parametrize("diffusion", ["natural", "zero", 0.7, Epsilon("sigma", 1.3)], ids=str)
@pytest.mark.parametrize("powers", POWERS, ids=["1.5, .7", "-1, 2", "2, 2", "3", "of time"])
@pytest.mark.parametrize("path", PATHS)
def test_drift_and_rate_solve_the_weighted_fokker_planck_equation(path, powers, diffusion, gauge):
    """``d log p + div v + v d log p - g^2/2 (lap log p + |d log p|^2) = rate``, up to a constant."""
    process = composed(path, powers, diffusion, gauge)
    for t in (0.3, 0.6, 0.85):
        time = torch.tensor(t, dtype=torch.float64)
        half = process.g(t) ** 2 / 2

        def drift(x, time=time):
            return process.drift(process.evaluate(x, time))[:, 0]

        _, first, second = slopes(lambda x, t=t: log_p(process, x, t), X)
        v, dv, _ = slopes(drift, X)
        h = 1e-5
        growth = (log_p(process, X, t + h) - log_p(process, X, t - h)) / (2 * h)
        rate = process.evaluate(X, time).rate()
        residual = growth + dv + v * first - half * (second + first**2) - rate
        scale = growth.abs().max()
        assert float((residual - residual.mean()).abs().max() / scale) < 1e-4


@pytest.mark.parametrize("path", PATHS)
def test_the_rate_does_not_depend_on_the_noise(path):
    t = torch.tensor(0.6, dtype=torch.float64)
    rates = [composed(path, (1.5, 0.7), g).evaluate(X, t).rate() for g in ("zero", "natural", 0.7)]
    assert torch.equal(rates[0], rates[1])
    assert torch.equal(rates[0], rates[2])


def test_a_gauge_adds_what_has_no_mean_under_the_target():
    """``h (d + <x - alpha m, S>)``: the mean is zero for any law, by parts."""
    process = composed("vp", (1.5, 0.7))
    plain = composed("vp", (1.5, 0.7), gauge="none")
    t = torch.tensor(0.6, dtype=torch.float64)
    x = torch.linspace(-8, 8, 20001, dtype=torch.float64)[:, None]
    p = torch.softmax(log_p(process, x, 0.6), 0)
    gained = process.evaluate(x, t).rate() - plain.evaluate(x, t).rate()
    assert float(gained.abs().max()) > 0.1
    assert abs(float(p @ gained)) < 1e-8


def test_experts_may_be_permuted_and_powers_split():
    a, b = experts()
    t = torch.tensor(0.4, dtype=torch.float64)
    same = [a**2 * b**0.5, b**0.5 * a**2, a * b**0.5 * a, (a**4 * b) ** 0.5]
    found = [ComposedProcess.of(product, SDE()).evaluate(X, t) for product in same]
    for other in found[1:]:
        torch.testing.assert_close(other.score, found[0].score, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other.rate(), found[0].rate(), rtol=1e-12, atol=1e-12)


def test_a_model_times_what_cancels_has_nothing_to_correct():
    a, b = experts()
    product = a * b / b
    assert len(product.terms) == 1
    rate = ComposedProcess.of(product, SDE()).evaluate(X, torch.tensor(0.4, dtype=torch.float64)).rate()
    assert float(rate.abs().max()) < 1e-12


@pytest.mark.parametrize("path", PATHS)
def test_with_the_gaussian_gauge_weights_of_normal_data_are_constant(path):
    """And they carry the normaliser: ``(2 pi v)^(d (1 - B)/2) B^(-d/2)``."""
    d, v, power = 4, 0.49, 4
    normal = GaussianMixture([1.0], [[0.0] * d], [v**0.5], interpolant=path, dtype=torch.float64)
    result = itscale.sample(
        normal**power, method=FKC(particles=100, ess_threshold=0.0), steps=1000, process=SDE(), seed=3
    )
    assert float(result.log_weights.std()) < 1e-8
    log_z = d / 2 * ((1 - power) * math.log(2 * math.pi * v) - math.log(power))
    assert float(result.log_evidence[0]) == pytest.approx(log_z, abs=0.02)  # 1000 steps, trapezoid


@pytest.mark.parametrize("gauge", GAUGES)
def test_rates_at_one_time_per_row_are_those_at_each_time(gauge):
    process = composed("linear", POWERS[-1], gauge=gauge)
    times = torch.linspace(0.2, 0.9, len(X), dtype=torch.float64)
    together = process.evaluate(X, times)
    for k in (0, 17, 40):
        alone = process.evaluate(X[k : k + 1], times[k])
        torch.testing.assert_close(together.score[k : k + 1], alone.score, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.rate()[k : k + 1], alone.rate(), rtol=1e-12, atol=1e-12)
