"""Best-of-N: draw N, keep the best."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.methods import independent
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """N independent samples, of which ``result.best()`` is the answer.

    Cost: N T NFE, N reward calls. It is a search: the best of N follows no tilted law, and its divergence
    from the base law is at most log N - (N - 1) / N (Beirami et al. 2024, arXiv:2401.01879).
    """

    particles: int | None = None

    @property
    def needs(self) -> Needs:
        return Needs()

    def __post_init__(self) -> None:
        check_count("particles", self.particles)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        return independent.plan_trajectories(self.particles, 16, cost, budget, scored=True)

    def init(self, engine: Engine, plan: Plan) -> State:
        return independent.start(engine, plan)

    def step(self, engine: Engine, state: State) -> State:
        return independent.move(engine, state)
