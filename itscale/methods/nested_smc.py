"""Nested SMC: N particles with M children each. SMC (M = 1) and SVDD (uncorrected) are settings of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import (
    Claim,
    Cost,
    Needs,
    Plan,
    State,
    check_count,
    check_fraction,
    forget_weights,
    plan_particles,
)
from itscale.methods.rollover import Saving
from itscale.methods.schedules import FEWEST, Schedule, get_schedule, sizes_of
from itscale.particles import WhenESSBelow, get_scheme
from itscale.potentials import Potential, get_potential


@dataclass(frozen=True, kw_only=True)
class NestedSMC:
    """Propose M children per particle, weight them, keep one each, resample the particles when ESS is low.

    Cost with a one-evaluation solver that is scored everywhere: N (1 + M (T - 1)) NFE and as many reward
    calls; N (T - 1 + M) NFE and N M calls with a learned value, which needs no look. Target: the tilted law
    as N grows, for any M, any potential and any scored steps; the evidence is unbiased, since a parent's
    weight takes up the mean weight of its children.

    Attributes:
        particles: N; None takes what the budget allows.
        children: M.
        ess_threshold: resample when ESS < this share of N; 1 resamples whenever weights differ, 0 never.
        scheme: resampling scheme.
        potential: ``"difference"``, ``"max"``, ``"sum"``, ``"value"`` or a potential of one's own.
        score_every: score every that many levels; the weights of the levels between are carried.
        score_window: first and last level that may be scored before the end; None is all.
        selection: ``"soft"`` draws a child in proportion to its weight; ``"argmax"`` takes the best, which
            is a search.
        correct: keep weights. False drops them: the soft value method as published.
        schedule: numbers of particles over the levels, with N as their mean: ``"flat"``, ``"funnel"`` (many
            early), ``"late"``, ``"rollover"`` (what even weights save is kept for later, for one child and
            one group only), (steps,) relative numbers, or an object of ``methods.schedules``.

    Reference:
        Naesseth, Lindsten and Schon (2015), "Nested Sequential Monte Carlo Methods", arXiv:1502.02536.
    """

    particles: int | None = None
    children: int = 1
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    potential: str | Potential = "difference"
    score_every: int = 1
    score_window: tuple[int, int] | None = None
    selection: Literal["soft", "argmax"] = "soft"
    correct: bool = True
    schedule: Schedule = None

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("children", self.children)
        check_count("score_every", self.score_every)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)
        get_potential(self.potential)
        if self.selection not in ("soft", "argmax"):
            raise ConfigError(f"selection must be 'soft' or 'argmax', got {self.selection!r}")
        if self.correct and self.selection == "argmax":
            raise ConfigError(
                "selection='argmax' follows no target, so it cannot be corrected: set correct=False"
            )
        schedule = get_schedule(self.schedule)
        if schedule is not None and not self.correct:
            raise ConfigError("schedule= changes numbers by weighted draws, and correct=False drops weights")
        if isinstance(schedule, Saving) and (
            self.children > 1 or self.score_every > 1 or self.score_window is not None
        ):
            raise ConfigError(
                "schedule='rollover' spends looks that all cost the same: it needs children=1, score_every=1 "
                "and no score_window"
            )
        if self.score_window is not None:
            first, last = self.score_window
            if not 0 <= first <= last:
                raise ConfigError(
                    f"score_window must be (first, last) levels with first <= last, got {self.score_window}"
                )

    @property
    def claim(self) -> Claim:
        """The tilted law, unless weights are dropped or resampling is biased."""
        if not self.correct or get_scheme(self.scheme).biased:
            return Claim(None)
        return Claim("tilted", "unbiased")

    def is_scored(self, level: int, steps: int) -> bool:
        """Whether the denoised samples of this level are scored; the last level always is."""
        if level == steps:
            return True
        first, last = self.score_window or (0, steps - 1)
        return first <= level <= last and (level - first) % self.score_every == 0

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        steps = cost.steps
        if self.score_window is not None and self.score_window[1] > steps - 1:
            raise ConfigError(
                f"score_window ends at level {self.score_window[1]}, but the last look is at {steps - 1}"
            )
        schedule = get_schedule(self.schedule)
        if isinstance(schedule, Saving) and any(extra > 0 for extra in cost.extra_looks):
            raise ConfigError(
                "schedule='rollover' needs a solver with one evaluation a step, such as '2m-sde'"
            )

        def cost_of(n: int) -> Plan:
            # what a rollover spends in all is what equal numbers do
            sizes = sizes_of(None if isinstance(schedule, Saving) else schedule, n, steps)
            rows = sizes[0] * cost.rows(0)
            nfe, scores = sizes[0], [sizes[0] * self.is_scored(0, steps)]  # the latter per level
            for level in range(steps):
                is_last = level + 1 == steps
                moved = sizes[-1] if is_last else sizes[level + 1]
                brood = self._brood(level, cost.noisy[level], steps)
                moved *= brood
                looked = moved // brood if cost.score.before_look and level + 1 < steps - 1 else moved
                nfe += moved * cost.extra_looks[level] + looked * (not is_last)
                rows += moved * cost.extra_looks[level] * cost.rows_per_look
                if not is_last:
                    rows += looked * cost.rows(level + 1)
                    scores.append(moved * self.is_scored(level + 1, steps))
            calls = sum(scores) + sizes[-1] * (not scores[-1])  # else the last sample's score is known
            # a rollover makes its looks where the weights ask for them
            known = None if isinstance(schedule, Saving) else rows
            return cost.plan(n, nfe, calls, sum(scores[:-1]), rows=known)

        return plan_particles(
            self.particles,
            16 if self.children == 1 else 4,
            cost_of,
            budget,
            cost.rows_per_look,
            1 if schedule is None else FEWEST,
            shrink="steps" if self.children == 1 else "children or steps",
        )

    def init(self, engine: Engine, plan: Plan) -> State:
        schedule, sizes = get_schedule(self.schedule), ()
        if isinstance(schedule, Saving):
            if engine.groups > 1:
                raise ConfigError(
                    "schedule='rollover' decides on numbers from one group's weights, and groups of a run "
                    f"share them; got {engine.groups} groups: run them one at a time, or use schedule='flat'"
                )
            sizes = (plan.particles,)
        elif schedule is not None:
            sizes = sizes_of(schedule, plan.particles, engine.steps)
        p = engine.look(engine.start(sizes[0] if sizes else plan.particles))
        if self.is_scored(0, engine.steps):
            p = engine.weight(engine.score(p), get_potential(self.potential))
        return State(p if self.correct else forget_weights(p), sizes=sizes)

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        level = int(p.level[0, 0])
        is_noisy = engine.is_noisy(level)
        state = self._rolled(engine, state, level)
        size = state.size_ahead(level)
        if self.correct and (is_noisy or size != p.n):  # copies made after the last noisy move never part
            p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme, size)
        brood = self._brood(level, is_noisy, engine.steps)
        p = engine.propose(p, children=brood)
        is_last = level + 1 == engine.steps
        chooses_first = brood > 1 and engine.scores_unseen(level + 1)
        if not (is_last or chooses_first):
            p = engine.look(p)
        if self.is_scored(level + 1, engine.steps):
            p = engine.weight(engine.score(p), get_potential(self.potential))
        else:
            p = engine.weight(p)
        if brood > 1:
            p = engine.choose(p, brood, argmax=self.selection == "argmax", correct=self.correct)
        elif not self.correct:
            p = forget_weights(p)
        return State(engine.look(p) if chooses_first else p, is_last, state.sizes)

    def _rolled(self, engine: Engine, state: State, level: int) -> State:
        """Decide on the number of particles ahead, where that is done as the run goes."""
        schedule = get_schedule(self.schedule)
        if not isinstance(schedule, Saving) or level + 1 == engine.steps:
            return state
        ahead = schedule.ahead(state.sizes, state.particles.log_weights, engine.steps, FEWEST)
        return replace(state, sizes=(*state.sizes, ahead))

    def _brood(self, level: int, is_noisy: bool, steps: int) -> int:
        """Children made by the move from this level: one where they would be alike or go unscored."""
        is_judged = level + 1 < steps and self.is_scored(level + 1, steps)
        return self.children if is_noisy and is_judged else 1
