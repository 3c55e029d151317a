"""Plain sampling from the model."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.methods import independent
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count


@dataclass(frozen=True, kw_only=True)
class Unguided:
    """Independent samples of the model; a reward, if there is one, scores them and steers nothing.

    Cost: T NFE a particle with a one-evaluation solver. Target: the discretised base law.
    """

    particles: int | None = None

    @property
    def needs(self) -> Needs:
        return Needs(reward=False)

    def __post_init__(self) -> None:
        check_count("particles", self.particles)

    @property
    def claim(self) -> Claim:
        return Claim("base")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        # Scores are optional here, so they are planned for only where they are limited.
        scored = budget is not None and budget.reward_calls is not None
        return independent.plan_trajectories(self.particles, 8, cost, budget, scored=scored)

    def init(self, engine: Engine, plan: Plan) -> State:
        return independent.start(engine, plan)

    def step(self, engine: Engine, state: State) -> State:
        return independent.move(engine, state)
