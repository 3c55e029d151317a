"""SVDD whose chains stop drawing when a child is good enough, and draw more later."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.methods.base import Claim, Cost, Needs, Plan, check_count, plan_particles
from itscale.methods.drawing import Chains, Passing, Threshold, check_moves, draw, finish, start


@dataclass(frozen=True, kw_only=True)
class RollingSVDD:
    """N chains with a quota of M children a level; see ``SVDD(rollover=...)``.

    Cost: N (1 + M (T - 1)) NFE and as many reward calls, all of it. It is a search: it stops on luck.
    """

    particles: int | None = None
    children: int = 4
    threshold: Threshold = "parent"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("children", self.children)

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        check_moves("SVDD with a rollover", cost)
        each = 1 + self.children * (cost.steps - 1)

        def cost_of(n: int) -> Plan:
            calls = n * each * cost.score.most_calls + n * (not cost.score.is_denoised)
            return Plan(n, n * each * (1 + cost.score.looks), calls)

        return plan_particles(
            self.particles,
            4,
            cost_of,
            budget,
            cost.rows_per_look,
            shrink="children or steps",
        )

    def init(self, engine: Engine, plan: Plan) -> Chains:
        rounds = self.children * (engine.steps - 1)
        return start(engine, plan.particles, 1, rounds, self.children)

    def step(self, engine: Engine, state: Chains) -> Chains:
        if not state.rounds:
            return finish(engine, state)
        return draw(engine, state, Passing(self.threshold))
