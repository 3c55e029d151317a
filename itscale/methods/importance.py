"""Importance sampling from the base model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.methods import independent
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count
from itscale.potentials import Difference


@dataclass(frozen=True, kw_only=True)
class ImportanceSampling:
    """N independent samples with weights exp(tilt r).

    Cost: N T NFE, N reward calls. Target: the tilted law as N grows, with an unbiased evidence; useless once
    ``tilt * sd(r)`` is beyond 2 or 3, where SMC is the method.
    """

    particles: int | None = None

    @property
    def needs(self) -> Needs:
        return Needs()

    def __post_init__(self) -> None:
        check_count("particles", self.particles)

    @property
    def claim(self) -> Claim:
        return Claim("tilted", "unbiased")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        return independent.plan_trajectories(self.particles, 16, cost, budget, scored=True)

    def init(self, engine: Engine, plan: Plan) -> State:
        return independent.start(engine, plan)

    def step(self, engine: Engine, state: State) -> State:
        done = independent.move(engine, state)
        if not done.is_done:
            return done
        return replace(done, particles=engine.weight(done.particles, Difference()))
