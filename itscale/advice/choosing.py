"""From a pilot to a method: the rules one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from itscale.advice import rules
from itscale.advice.pilot import Pilot
from itscale.advice.rules import Goal, Scoring
from itscale.errors import BudgetError
from itscale.methods import CTS, SMC, SVDD, Plan, Unguided
from itscale.methods.base import Method

CHILDREN = 16  # of a single chain, at most

Sizing: TypeAlias = Callable[[Method, int], Plan]
"""Plans a method at a number of steps under the run's budget, or raises BudgetError."""


@dataclass(frozen=True)
class Chosen:
    """A method and the sentences that led to it."""

    method: Method
    reasons: tuple[str, ...]


def choose(
    pilot: Pilot,
    has_gradient: bool,
    goal: Goal,
    tilt: float,
    steps: int,
    plan_of: Sizing,
) -> Chosen:
    """Go through the rules for the method; its number of particles is left to the budget."""
    profile = pilot.profile
    assert profile.correlation is not None
    if tilt == 0:
        return Chosen(Unguided(), ("Nothing has to be steered.",))
    spread = tilt * profile.reward_std
    scoring = rules.scoring_for(pilot.rows_per_call, profile.correlation, spread)
    every, window = scoring.value
    particles = affordable(plan_of, steps)
    chain = rules.single_chain(particles, goal)
    if chain.value:
        return Chosen(_chain(plan_of, steps, scoring.value), (scoring.reason, chain.reason))
    half = steps // 2
    early = profile.correlation[half]
    known = rules.known_early(early, pilot.standard_error(lambda p: p.correlation(half)))
    blind = rules.says_nothing_early(early)
    reasons = [scoring.reason, known.reason, *([blind.reason] if blind.value else [])]
    reasons += [chain.reason] if chain.reason else []
    if every > 1 or window is not None or known.value:
        return Chosen(SMC(score_every=every, score_window=window), tuple(reasons))
    schedule = rules.schedule_for(early, goal, particles)
    drift = rules.drift_for(has_gradient, particles)
    method = CTS(profile=profile, drift=drift.value, schedule=schedule.value)  # type: ignore[arg-type]
    return Chosen(method, (*reasons, schedule.reason, drift.reason))


def affordable(plan_of: Sizing, steps: int) -> int:
    """Particles of plain SMC that the budget pays for; 0 if it pays for none."""
    try:
        return plan_of(SMC(), steps).particles
    except BudgetError:
        return 0


def _chain(plan_of: Sizing, steps: int, scoring: Scoring) -> SVDD:
    """One chain with as many children as the budget pays for, at least 2."""

    def chain(children: int) -> SVDD:
        return SVDD(
            particles=1,
            children=children,
            selection="argmax",
            score_every=scoring.every,
            score_window=scoring.window,
        )

    for children in range(CHILDREN, 2, -1):
        try:
            plan_of(chain(children), steps)
        except BudgetError:
            continue
        return chain(children)
    return chain(2)
