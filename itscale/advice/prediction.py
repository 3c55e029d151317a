"""How far off the evidence of an advised run will be, and how sure the pilot is of that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from itscale.advice.pilot import Pilot
from itscale.advice.tilts import divergence_ratio
from itscale.advice.variance import LARGEST, relative_variance
from itscale.methods import CTS, SMC, TwistedSMC
from itscale.methods.base import Method


@dataclass(frozen=True)
class Prediction:
    """How far off the evidence of one run will be.

    Attributes:
        relative_variance: of the estimate of Z, the pushes of guided moves left out.
        log_error: standard error of its logarithm, over pilots of this size.
    """

    relative_variance: float
    log_error: float

    @property
    def error(self) -> float:
        """Root mean squared error of log Z; only a hint above 1."""
        return math.sqrt(self.relative_variance)

    @property
    def factor(self) -> float:
        """The factor by which ``error`` is uncertain either way: one standard error."""
        return math.exp(min(self.log_error / 2, LARGEST))

    def __str__(self) -> str:
        text = (
            f"Expected error of log Z in one run: {self.error:.2g}, uncertain by a factor {self.factor:.2g} "
            "either way (one standard error of the pilot)."
        )
        if self.relative_variance > 1:
            text += " Above 1 single runs are no measure of Z: raise the budget or lower the tilt."
        return text


def predict(pilot: Pilot, method: Method, tilt: float, particles: int, steps: int) -> Prediction | None:
    """Predict the variance of a method's evidence; None for a method without one."""
    exponents, sizes, threshold, scored = [1.0] * steps, [particles] * steps, 0.0, None
    if isinstance(method, SMC):
        threshold, core = method.ess_threshold, method.core()
        scored = [core.is_scored(k, steps) for k in range(steps)]
    elif isinstance(method, CTS):
        threshold, exponents = method.ess_threshold, list(pilot.profile.exponents())
        if method.schedule == "half":
            schedule = pilot.profile.schedule(tilt * pilot.profile.reward_std)
            sizes = TwistedSMC(schedule=schedule).sizes(particles, steps)
    else:
        return None

    def variance(p: Pilot) -> float:
        ratio = divergence_ratio(p.deviations[:, -1], tilt)
        return relative_variance(ratio * p.covariance, tilt, exponents, sizes, threshold, scored)

    found = variance(pilot)
    return Prediction(found, pilot.standard_error(lambda p: math.log(variance(p))))
