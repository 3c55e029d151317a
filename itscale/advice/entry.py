"""``advise``: settings of a run from a short pilot."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from itscale.advice import rules
from itscale.advice.advised import Advice
from itscale.advice.choosing import affordable, choose
from itscale.advice.pilot import BLOCKS, Pilot, run_pilot
from itscale.advice.prediction import Prediction, predict
from itscale.advice.rules import GOALS, Finding, Goal
from itscale.budget import Budget
from itscale.errors import ConfigError, unknown_name
from itscale.methods import CTS, SMC, Plan
from itscale.methods.base import Method
from itscale.models.base import Model
from itscale.models.guidance import GuidanceLike
from itscale.pools import Pool
from itscale.preparation import prepare
from itscale.process import ODE, SDE
from itscale.scoring import Reward, as_reward
from itscale.solvers import Solver


def advise(
    model: Model,
    reward: Any,
    budget: int | Budget,
    *,
    goal: Goal = "sample",
    tilt: float | str = "auto",
    want: float | None = None,
    condition: Any = None,
    steps: int = 50,
    process: ODE | SDE | None = None,
    solver: str | Solver | None = None,
    grid: Any = "native",
    guidance: GuidanceLike = 1.0,
    seed: int = 0,
    held_out: Any = None,
    trajectories: int = 128,
    pool: Pool | None = None,
) -> Advice:
    """Say which method, number of particles, steps and tilt to use, and why, from a short pilot.

    Cost: ``trajectories`` times steps NFE and reward calls, reported in ``Advice.pilot`` and not part of the
    budget. The pilot has noise of its own, so runs with its settings keep their evidence unbiased.

    Args:
        model, reward, condition, process, solver, grid, guidance, pool: as for ``sample``; trajectories are
            spread over a list of conditions.
        budget: limits per group, or a number of network evaluations.
        goal: ``"sample"`` the tilted law, ``"search"`` for the best sample, or measure the ``"evidence"``.
        tilt: exponent on the reward; ``"auto"`` scales it by the spread of the reward.
        want: mean reward to reach, in place of ``tilt``.
        steps: intervals of the time grid, at most; fewer are proposed where they leave too few particles.
        seed: of the pilot and of the runs.
        held_out: a reward that only looks at final samples; a search should have one.
        trajectories: of the pilot, over all conditions.

    Returns:
        ``Advice``: ``advice.settings()`` are arguments of ``sample``; ``save(file, model=name)`` writes
        a configuration for ``itscale run``.

    Raises:
        ConfigError: before any network call, for settings that cannot work; after the pilot, if the reward
            does not vary.
        BudgetError: if the budget does not pay for one particle.
    """
    if getattr(model, "tokens", None) is not None:
        raise ConfigError(
            "advise measures how denoised samples change along continuous paths, and this is a masked model; "
            "compare methods in a sweep instead: itscale sweep"
        )
    _check(goal, tilt, want, trajectories)
    limits = _budget(budget)
    scorer, judge = as_reward(reward), None if held_out is None else as_reward(held_out)
    place: dict[str, Any] = {"process": process, "solver": solver, "grid": grid, "guidance": guidance}
    known = {"reward": scorer, "held_out": judge}
    place["process"] = prepare(model, method=SMC(), steps=steps, **known, **place).view  # also without a tilt

    def plan_of(method: Method, steps: int) -> Plan:
        return prepare(model, method=method, steps=steps, budget=limits, **known, **place).plan

    taken = rules.steps_for(lambda t: affordable(plan_of, t), steps)
    if affordable(plan_of, taken.value) == 0:
        plan_of(SMC(), taken.value)  # says what the least is
    conditions = list(condition) if isinstance(condition, list | tuple) else [condition]
    model.encode(conditions)
    pilot = run_pilot(
        model,
        scorer,
        conditions,
        trajectories,
        held_out=judge,
        seed=seed,
        steps=taken.value,
        pool=pool,
        **place,
    )
    aimed = _tilt(pilot, goal, tilt, want)
    sharpness = float(f"{aimed.value:.4g}")  # more digits say nothing
    choice = choose(pilot, scorer.gradient_ready, goal, sharpness, taken.value, plan_of)
    plan = plan_of(choice.method, taken.value)
    guess = None
    if goal != "search":  # whose tilt leaves no evidence to speak of
        guess = predict(pilot, choice.method, sharpness, plan.particles, taken.value)
    reasons = (
        taken.reason,
        aimed.reason,
        *choice.reasons,
        *_told(guess, choice.method),
        *_judged(pilot, goal, judge),
    )
    return Advice(
        goal=goal,
        method=replace(choice.method, particles=plan.particles),  # type: ignore[type-var]
        tilt=sharpness,
        particles=plan.particles,
        steps=taken.value,
        schedule=getattr(choice.method, "schedule", "flat"),
        score_every=getattr(choice.method, "score_every", 1),
        plan=plan,
        prediction=guess,
        reasons=(*reasons, _cost(pilot)),
        profile=pilot.profile,
        pilot=pilot.spent,
        seconds_per_row=pilot.seconds_per_row,
        seconds_per_call=pilot.seconds_per_call,
        request={
            "reward": reward,
            "held_out": held_out,
            "condition": condition,
            "groups": len(conditions),
            "budget": limits,
            "seed": seed,
            "pool": pool,
            **place,
        },
    )


def _check(goal: str, tilt: float | str, want: float | None, trajectories: int) -> None:
    if goal not in GOALS:
        raise unknown_name("goal", goal, GOALS)
    if want is not None and tilt != "auto":
        raise ConfigError(f"tilt={tilt!r} and want={want!r} exclude each other; give one of them")
    if tilt != "auto" and not (isinstance(tilt, int | float) and 0 <= tilt < math.inf):
        raise ConfigError(f"tilt must be finite and >= 0, or 'auto', got {tilt!r}; negate the reward instead")
    if trajectories < 2 * BLOCKS:
        raise ConfigError(
            f"trajectories must be at least {2 * BLOCKS} for a standard error, got {trajectories}"
        )


def _budget(budget: int | Budget) -> Budget:
    """Return limits that do not depend on the machine.

    Raises:
        ConfigError: for seconds alone.
    """
    limits = budget if isinstance(budget, Budget) else Budget(nfe=budget)
    if limits.nfe is None and limits.model_rows is None and limits.reward_calls is None:
        raise ConfigError(
            "advise needs a budget in nfe, model_rows or reward_calls; seconds alone plan nothing"
        )
    return limits


def _tilt(pilot: Pilot, goal: Goal, tilt: float | str, want: float | None) -> Finding[float]:
    if want is not None:
        return rules.tilt_by_mean(pilot, want)
    if isinstance(tilt, str):
        return rules.tilt_by_spread(pilot.profile.reward_std, goal)
    spread = tilt * pilot.profile.reward_std
    return Finding(
        float(tilt), f"The tilt was given; times the standard deviation of the reward it is {spread:.3g}."
    )


def _told(guess: Prediction | None, method: Method) -> tuple[str, ...]:
    """The prediction in words."""
    if guess is None:
        return ()
    is_pushed = isinstance(method, CTS) and method.drift != "none"
    return (f"{guess} The pushes of its moves lower it." if is_pushed else str(guess),)


def _judged(pilot: Pilot, goal: Goal, judge: Reward | None) -> tuple[str, ...]:
    """What a held-out reward says, or that there is none."""
    if judge is not None and pilot.held_out is not None:
        return (
            f"Over unguided samples the held-out reward correlates {pilot.held_out:+.2f} with the reward.",
        )
    if goal == "search":
        return (
            "A search gains on the reward that steers it and may lose elsewhere: give a held_out reward.",
        )
    return ()


def _cost(pilot: Pilot) -> str:
    text = (
        f"The pilot took {pilot.spent}: {1e3 * pilot.seconds_per_row:.3g} ms a network row, "
        f"{1e3 * pilot.seconds_per_call:.3g} ms a reward call."
    )
    return (
        text
        if not pilot.invalid
        else f"{text} {pilot.invalid} trajectories without valid scores were left out."
    )
