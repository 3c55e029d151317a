"""What is predicted for a method rests on its own exponents, sizes and scored levels."""

from __future__ import annotations

import pytest
import torch

from itscale.advice import Prediction, predict
from itscale.advice.tilts import divergence_ratio
from itscale.advice.variance import relative_variance
from itscale.methods import CTS, SMC, SVDD, TwistedSMC, Unguided
from tests.advice.settings import hand_made

STEPS, N, TILT = 6, 20, 1.5
WALK = torch.randn(256, STEPS, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
PILOT = hand_made(WALK / STEPS**0.5)
HALF = TwistedSMC(schedule=PILOT.profile.schedule(TILT * PILOT.profile.reward_std)).sizes(N, STEPS)
EVEN = [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("method", "exponents", "sizes", "threshold", "scored"),
    [
        (SMC(), [1.0] * STEPS, [N] * STEPS, 0.5, None),
        (SMC(score_every=2, ess_threshold=1.0), [1.0] * STEPS, [N] * STEPS, 1.0, EVEN),
        (CTS(profile=PILOT.profile), PILOT.profile.exponents(), [N] * STEPS, 0.9, None),
        (CTS(profile=PILOT.profile, schedule="half"), PILOT.profile.exponents(), HALF, 0.9, None),
    ],
    ids=["smc", "sparse", "cts", "half"],
)
def test_prediction_is_of_the_method(method, exponents, sizes, threshold, scored):
    scaled = divergence_ratio(PILOT.deviations[:, -1], TILT) * PILOT.covariance
    found = predict(PILOT, method, TILT, N, STEPS)
    assert found is not None
    expected = relative_variance(scaled, TILT, exponents, sizes, threshold, scored)
    assert found.relative_variance == pytest.approx(expected, rel=1e-12)
    assert found.log_error > 0


def test_methods_without_an_evidence_have_no_prediction():
    assert predict(PILOT, SVDD(), TILT, N, STEPS) is None
    assert predict(PILOT, Unguided(), TILT, N, STEPS) is None


def test_a_large_variance_is_said_to_be_no_measure():
    assert "no measure of Z" in str(Prediction(1.1, 0.2))
    assert "no measure of Z" not in str(Prediction(0.9, 0.2))
