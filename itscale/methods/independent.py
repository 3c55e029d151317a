"""Independent trajectories: the common part of unguided sampling, best-of-N and importance sampling."""

from __future__ import annotations

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.methods.base import Cost, Plan, State, advance, plan_particles


def plan_trajectories(
    particles: int | None, default: int, cost: Cost, budget: Budget | None, scored: bool
) -> Plan:
    """Size a run of independent trajectories, each scored once at its end."""

    def cost_of(n: int) -> Plan:
        rows = n * cost.trajectory_rows()
        return Plan(n, n * cost.trajectory(), n if scored else 0, rows=rows)

    return plan_particles(particles, default, cost_of, budget, cost.rows_per_look)


def start(engine: Engine, plan: Plan) -> State:
    return State(engine.look(engine.start(plan.particles)))


def move(engine: Engine, state: State) -> State:
    p = advance(engine, state.particles)
    if int(p.level[0, 0]) < engine.steps:
        return State(p)
    return State(engine.score(p) if engine.has_reward else p, is_done=True)
