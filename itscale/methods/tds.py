"""TDS: twisted SMC with proposals guided by the reward's gradient through the network."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.methods.preset import Preset
from itscale.methods.twisted import TwistedSMC


@dataclass(frozen=True, kw_only=True)
class TDS(Preset):
    """Twisted diffusion sampler: SMC whose moves follow the reward's gradient, weighted exactly.

    Cost: N T NFE, each with a backward pass through network and decoder (about twice a forward), and N T
    reward calls. Target: the tilted law as N grows, with an unbiased evidence. Needs a differentiable reward.

    Attributes:
        particles: N; None takes what the budget allows.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.
        cap: largest norm of a push in standard deviations of the move; None does not limit it.

    Reference:
        Wu et al. (2023), "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models",
        arXiv:2306.17775, Algorithm 1.
    """

    particles: int | None = None
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    cap: float | None = None

    def core(self) -> TwistedSMC:
        return TwistedSMC(
            particles=self.particles,
            ess_threshold=self.ess_threshold,
            scheme=self.scheme,
            guide="network",
            cap=self.cap,
        )
