"""DAS: tempered twisted SMC with proposals guided by the reward's gradient through the network."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.methods.preset import Preset
from itscale.methods.tempering import Adaptive, Exponents
from itscale.methods.twisted import TwistedSMC


@dataclass(frozen=True, kw_only=True)
class DAS(Preset):
    """Diffusion alignment as sampling: the value's exponent rises from 0, and moves follow its gradient.

    Cost: as ``TDS``. Target: the tilted law as N grows. The published code returns the heaviest particle,
    which is no draw from it: use ``result.resample`` for draws, ``result.best`` for a search.

    Attributes:
        particles: N; None takes what the budget allows.
        tempering: ``"exponential"`` (growth chosen to reach 1 at 87 % of the levels; the paper's is
            ``tempering.Exponential(0.008)`` at 100 steps), ``"polynomial"``, ``"adaptive"`` or exponents.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.
        cap: largest norm of a push in standard deviations of the move; None does not limit it.

    Reference:
        Kim et al. (2025), "Test-time Alignment of Diffusion Models without Reward Over-optimization",
        arXiv:2501.05803, Algorithm 1.
    """

    particles: int | None = None
    tempering: str | tuple[float, ...] | Exponents | Adaptive = "exponential"
    ess_threshold: float = 0.5
    scheme: str = "ssp"
    cap: float | None = None

    def core(self) -> TwistedSMC:
        return TwistedSMC(
            particles=self.particles,
            ess_threshold=self.ess_threshold,
            scheme=self.scheme,
            tempering=self.tempering,
            guide="network",
            cap=self.cap,
        )
