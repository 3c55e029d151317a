"""Twisted sequential Monte Carlo: the reference method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.methods.base import Claim, Cost, Needs, Plan, State
from itscale.methods.nested_smc import NestedSMC
from itscale.potentials import Potential


@dataclass(frozen=True, kw_only=True)
class SMC:
    """Particles move by the base kernel and are weighted by the growth of ``tilt * r(denoised)``.

    Cost: N T NFE and N T reward calls. Target: the tilted law as N grows, whatever the potential and the
    scored steps, with an unbiased evidence; weights of steps without resampling are carried. Options as in
    ``NestedSMC``.

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
    needs: ClassVar[Needs] = Needs(noise=True)

    def __post_init__(self) -> None:
        self._nested()

    def _nested(self) -> NestedSMC:
        return NestedSMC(
            particles=self.particles,
            ess_threshold=self.ess_threshold,
            scheme=self.scheme,
            potential=self.potential,
            score_every=self.score_every,
            score_window=self.score_window,
        )

    @property
    def claim(self) -> Claim:
        return self._nested().claim

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        return self._nested().plan(cost, budget)

    def init(self, engine: Engine, plan: Plan) -> State:
        return self._nested().init(engine, plan)

    def step(self, engine: Engine, state: State) -> State:
        return self._nested().step(engine, state)
