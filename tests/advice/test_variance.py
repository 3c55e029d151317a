"""Predicted variance of the evidence: closed forms, and runs on models where it is exact."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.advice.variance import relative_variance
from itscale.methods import CTS, SMC, TwistedSMC
from itscale.sampling.pilots import Recorder
from tests.advice.settings import hand_made

STEPS, PARTICLES, RUNS = 10, 24, 1500
GAUSSIAN = itscale.models.GaussianMixture([1.0], [[0.3, -0.2]], [0.8], dtype=torch.float64)
SQUARES = torch.tensor([0.0, 0.1, 0.4, 0.7, 1.0], dtype=torch.float64)  # squared correlations
MARTINGALE = torch.minimum(SQUARES[:, None], SQUARES[None])  # covariance of conditional means


@itscale.reward(name="direction", modality="vector")
def direction(vectors):
    return vectors @ torch.tensor([1.0, 0.5], dtype=vectors.dtype)


def run(method, tilt, seed=9):
    return itscale.sample(
        GAUSSIAN,
        reward=direction,
        method=method,
        tilt=tilt,
        steps=STEPS,
        solver="ancestral",
        groups=RUNS,
        seed=seed,
    )


@pytest.fixture(scope="module")
def gaussian():
    """Pilot on a Gaussian: denoised samples of a linear reward are conditional means, jointly Gaussian."""
    seen = []
    itscale.sample(
        GAUSSIAN,
        reward=direction,
        method=Recorder(particles=20_000),
        steps=STEPS,
        solver="ancestral",
        on_step=seen.append,
        seed=5,
    )
    return hand_made(seen[-1].particles.carry["rewards"][0])


def measured(result) -> tuple[float, float]:
    """Relative variance of Z over runs, and its standard error from the fourth moment."""
    z = (result.log_evidence - result.log_evidence.max()).exp()
    z = z / z.mean()
    square = (z - 1) ** 2
    return float(square.mean()), float(square.std()) / math.sqrt(len(z))


def test_conditional_means_resampled_at_every_level_give_the_product_of_their_gains():
    gains = SQUARES[1:] - SQUARES[:-1]
    expected = float((1 + torch.expm1(4.0 * gains) / 20).prod()) - 1
    found = relative_variance(MARTINGALE, 2.0, [1.0] * 5, [20] * 5, 1.0)
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_resampling_it_is_importance_sampling():
    found = relative_variance(MARTINGALE, 2.0, [1.0] * 5, [20] * 5, 0.0)
    assert found == pytest.approx(math.expm1(4.0) / 20, rel=1e-12)


def test_scoring_the_last_level_alone_is_importance_sampling():
    found = relative_variance(MARTINGALE, 2.0, [1.0] * 5, [20] * 5, 1.0, [False] * 5)
    assert found == pytest.approx(math.expm1(4.0) / 20, rel=1e-12)


def test_over_confident_values_pay_for_their_noise():
    noise = torch.diag(torch.tensor([0.0, 0.3, 0.0, 0.0, 0.0], dtype=torch.float64))
    slope = 0.1 / 0.4  # of the noisy level: covariance over variance
    for exponent in (slope, 1.0):
        exponents = [1.0, exponent, 1.0, 1.0, 1.0]
        found = relative_variance(MARTINGALE + noise, 2.0, exponents, [20] * 5, 1.0)
        known = 0.1 * slope  # squared correlation that the noise leaves
        first = 4 * known  # level 1 from nothing
        second = 4 * (0.4 - known + 0.4 * (exponent - slope) ** 2)
        # an exponent above the slope: Var(r_2 - a r_1) = .4 - 2 a .1 + a^2 .4, which is the line above
        assert 0.4 - 2 * exponent * 0.1 + exponent**2 * 0.4 == pytest.approx(second / 4)
        rest = (1.2, 1.2)
        expected = math.prod(1 + math.expm1(v) / 20 for v in (first, second, *rest)) - 1
        assert found == pytest.approx(expected, rel=1e-12)


def test_a_change_of_size_resamples_and_more_particles_where_it_is_decided_help():
    flat = relative_variance(MARTINGALE, 2.0, [1.0] * 5, [20] * 5, 1.0)
    moved = relative_variance(MARTINGALE, 2.0, [1.0] * 5, [10, 15, 25, 25, 25], 1.0)
    forced = relative_variance(MARTINGALE, 2.0, [1.0] * 5, [20, 21, 20, 21, 20], 0.0)
    assert moved < flat
    assert forced == pytest.approx(flat, rel=0.05)


def test_no_tilt_and_an_enormous_one_are_finite():
    assert relative_variance(MARTINGALE, 0.0, [1.0] * 5, [20] * 5, 0.5) == 0
    assert math.isfinite(relative_variance(MARTINGALE, 1e6, [1.0] * 5, [20] * 5, 0.5))


@pytest.mark.parametrize(
    ("method", "tilt"),
    [
        (SMC(particles=PARTICLES, ess_threshold=1.0), 1.0),
        (SMC(particles=PARTICLES, ess_threshold=1.0), 2.0),
        (SMC(particles=PARTICLES), 2.0),
        (SMC(particles=PARTICLES, ess_threshold=0.0), 1.0),
        (SMC(particles=PARTICLES, score_every=3, ess_threshold=1.0), 2.0),
    ],
    ids=["mild", "sharp", "when low", "never", "sparse"],
)
def test_prediction_is_exact_on_a_gaussian(gaussian, method, tilt):
    """The factors of the evidence are independent there. The pilot's 20 000 trajectories leave an error of
    sqrt(2 / 20 000) = 1 % in a variance, times at most 2.6 = v e^v / (e^v - 1) for a gap of v <= 2.5."""
    tilt = tilt / gaussian.profile.reward_std
    core = method.core()
    scored = [core.is_scored(k, STEPS) for k in range(STEPS)]
    found = relative_variance(
        gaussian.covariance, tilt, [1.0] * STEPS, [PARTICLES] * STEPS, method.ess_threshold, scored
    )
    value, error = measured(run(method, tilt))
    assert abs(found - value) < 4.89 * math.hypot(error, 0.026 * found)


def test_prediction_covers_exponents_below_the_slope_and_changing_sizes(gaussian):
    """To first order in 1 / N; systematic resampling, less random than in the formula, may lower it to what
    the best exponents would give."""
    tilt, n = 2.0 / gaussian.profile.reward_std, 64
    method = CTS(particles=n, profile=gaussian.profile, drift="none", schedule="half")
    sizes = TwistedSMC(schedule=gaussian.profile.schedule(2.0)).sizes(n, STEPS)
    found = relative_variance(gaussian.covariance, tilt, gaussian.profile.exponents(), sizes, 0.9)
    least = relative_variance(gaussian.covariance, tilt, [1.0] * STEPS, sizes, 1.0)
    value, error = measured(run(method, tilt))
    assert least - 4.89 * error < value < found + 4.89 * math.hypot(error, 0.026 * found)
