"""Funnel: many particles while little is decided, few at the end, and a reward that counts more and more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from itscale.methods.preset import Preset
from itscale.methods.schedules import Schedule
from itscale.methods.tempering import Adaptive, Exponents
from itscale.methods.twisted import TwistedSMC


@dataclass(frozen=True, kw_only=True)
class Funnel(Preset):
    """Twisted SMC with numbers of particles that fall and exponents that rise, both on a line.

    Cost: N T NFE and reward calls, N the mean number. Target: the tilted law as N grows, with an unbiased
    evidence: numbers are reduced by unbiased resampling, not by keeping the best. The ramp helps where early
    rewards mislead; the funnel itself pays only where the reward is decided early, and costs accuracy of
    ``E[r]`` elsewhere (``docs/methods.md``).

    Attributes:
        particles: N, mean over the levels; None takes what the budget allows.
        schedule: see ``TwistedSMC``.
        tempering: exponents on the values.
        ess_threshold: resample when ESS < this share of the particles; every change of number resamples too.
        scheme: resampling scheme.

    Reference:
        arXiv:2508.12361 (2025), funnel schedule and adaptive temperature. The shape of the line here, 1.6 to
        0.4 of the mean, is ours.
    """

    particles: int | None = None
    schedule: Schedule = "funnel"
    tempering: str | tuple[float, ...] | Exponents | Adaptive = "ramp"
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    has_lineage: ClassVar[bool] = False  # the number of particles differs from level to level

    def core(self) -> TwistedSMC:
        return TwistedSMC(
            particles=self.particles,
            ess_threshold=self.ess_threshold,
            scheme=self.scheme,
            tempering=self.tempering,
            schedule=self.schedule,
        )
