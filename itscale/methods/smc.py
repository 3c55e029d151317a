"""Twisted sequential Monte Carlo: the reference method."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.methods.nested_smc import NestedSMC
from itscale.methods.preset import Preset
from itscale.methods.schedules import Schedule
from itscale.potentials import Potential


@dataclass(frozen=True, kw_only=True)
class SMC(Preset):
    """Particles move by the base kernel and are weighted by the growth of ``tilt * r(denoised)``.

    Cost: N T NFE and N T reward calls. Target: the tilted law as N grows, whatever the potential, the scored
    steps and the numbers of particles over the levels (``schedule``), with an unbiased evidence; weights of
    steps without resampling are carried. Options as in ``NestedSMC``.

    Reference:
        Wu et al. (2023), "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models",
        arXiv:2306.17775; Singhal et al. (2025), arXiv:2501.06848.
    """

    particles: int | None = None
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    potential: str | Potential = "difference"
    score_every: int = 1
    score_window: tuple[int, int] | None = None
    schedule: Schedule = None

    def core(self) -> NestedSMC:
        return NestedSMC(
            particles=self.particles,
            ess_threshold=self.ess_threshold,
            scheme=self.scheme,
            potential=self.potential,
            score_every=self.score_every,
            score_window=self.score_window,
            schedule=self.schedule,
        )
