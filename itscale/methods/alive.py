"""Alive sampling: draw until enough samples satisfy a constraint, and know how likely that was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles, Rows
from itscale.engine.ragged import Ragged
from itscale.errors import ConfigError, RewardError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, plan_particles
from itscale.methods.tree_search import fetched
from itscale.process import ContinuousProcess, ExpertsProcess


@dataclass(frozen=True)
class AliveState(State):
    """Trials so far, and the round under way; ``particles`` are the first round's.

    Attributes:
        reward: (g, trials), NaN where a group made no such trial.
        stored: (g, trials), numbers of the kept states; -1 where it was not kept.
        kept: these states, a batch a round: all of the first, the alive ones of the others.
        flight: the round under way.
        most: trials that a group may make.
        n: number of samples to hand out.
        was_scored: whether any sample had a valid score.
    """

    reward: Float64[Tensor, "g trials"] = field(default_factory=lambda: torch.zeros(0, 0).double())
    stored: Int64[Tensor, "g trials"] = field(default_factory=lambda: torch.zeros(0, 0).long())
    kept: tuple[Rows, ...] = ()
    flight: Ragged | None = None
    most: int = 0
    n: int = 0
    was_scored: bool = False

    @property
    def alive(self) -> Bool[Tensor, "g trials"]:
        return self.reward > -math.inf

    def ended(self, engine: Engine) -> Particles:
        """What is alive after the rounds that are over; in the first, its particles as they stand."""
        return ends_of(engine, self)[0] if self.reward.numel() else super().ended(engine)


@dataclass(frozen=True, kw_only=True)
class Alive:
    """Draw samples in rounds until N + 1 have a reward above ``-inf``; the first N of them are kept.

    For constraints: a reward that is ``-inf``, or has no score, for what may not be. Kept samples are
    independent draws of the model given the constraint, weighted by ``exp(tilt r)``. With T trials up to the
    last one counted, the share of samples that satisfy it is estimated by ``N / (T - 1)``, without bias; the
    trial that ends the search is not among the kept ones for that reason. Where a group has made
    ``max_trials`` before, it hands over what it has: A of them alive, and ``A / max_trials``, which keeps the
    estimate unbiased (the two are one estimate, by the number of paths to where it stopped). What is missing
    to N then has weight zero.

    Cost: T NFE a trial, T steps, and one reward call; ``max_trials`` of them at most, to the end of a round
    else. Target: the tilted law, with an unbiased evidence. A round more or less changes nothing: trials are
    numbered, and each has noise of its own.

    Attributes:
        particles: N; None is 16.
        max_trials: the most that a group makes; None is what the budget pays for, or 64 N.
        batch: trials of a round; None is N + 1.

    Reference:
        Del Moral, Jasra, Lee, Yau and Zhang (2015), "The Alive Particle Filter and Its Use in Particle Markov
        Chain Monte Carlo"; Girshick, Mosteller and Savage (1946), "Unbiased Estimates for Certain Binomial
        Sampling Problems with Applications".
    """

    particles: int | None = None
    max_trials: int | None = None
    batch: int | None = None
    has_lineage: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("particles", "max_trials", "batch"):
            check_count(name, getattr(self, name))

    @property
    def needs(self) -> Needs:
        return Needs()

    @property
    def claim(self) -> Claim:
        return Claim("tilted", "unbiased")

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for a composition, whose samples have weights of their own."""
        if isinstance(process, ExpertsProcess):
            raise ConfigError(
                "Alive counts plain samples, and those of a composition have weights; use 'fkc'"
            )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        n, each = self.particles or 16, cost.trajectory()
        return plan_particles(
            self.max_trials,
            64 * n,
            lambda trials: Plan(n, trials * each, trials),
            budget,
            cost.rows_per_look,
            n + 1,
            shrink="particles or steps",
            unit="max_trials",
        )

    def init(self, engine: Engine, plan: Plan) -> AliveState:
        if engine.initial is not None:
            raise ConfigError("Alive draws noises as long as it needs them: leave initial out")
        none = torch.zeros(engine.groups, 0)
        state = AliveState(
            Particles.first(None, engine.groups, 0),  # type: ignore[arg-type]
            reward=none.double(),
            stored=none.long(),
            most=plan.reward_calls,
            n=plan.particles,
        )
        return self._move(engine, self._set_out(engine, state))

    def step(self, engine: Engine, state: AliveState) -> AliveState:
        """Move a round on by one level."""
        return self._move(engine, state)

    def _set_out(self, engine: Engine, state: AliveState) -> AliveState:
        """Begin a round of the groups that have too few, or finish."""
        made = state.reward.shape[1]
        size = min(self.batch or state.n + 1, state.most - made)
        group = (state.alive.sum(1) <= state.n).nonzero()[:, 0]
        if not len(group) or not size:
            return self._finish(engine, state)
        slot = made + torch.arange(size).repeat(len(group))
        flight = Ragged(None, -1, group.repeat_interleave(size), slot)
        if not made:
            state = replace(state, particles=Particles.first(None, engine.groups, size))  # type: ignore[arg-type]
        return replace(state, flight=flight)

    def _move(self, engine: Engine, state: AliveState) -> AliveState:
        assert state.flight is not None
        moved = state.flight.move(engine, state.flight.level + 1)
        state = replace(state, flight=moved)
        assert moved.rows is not None
        if not state.reward.numel():  # all groups are in the first round
            p = state.particles
            state = replace(
                state, particles=replace(p, rows=moved.rows, level=torch.full_like(p.level, moved.level))
            )
        return state if moved.level < engine.steps - 1 else self._land(engine, state, moved)

    def _land(self, engine: Engine, state: AliveState, moved: Ragged) -> AliveState:
        """Score the ends of a round, and keep what is alive."""
        found, valid, scored = moved.score(engine)
        was_scored = state.was_scored or bool(valid.any())
        made = state.reward.shape[1]
        size = int(moved.slot.max()) + 1 - made
        where = (moved.group, moved.slot - made)
        reward = torch.full((engine.groups, size), torch.nan, dtype=torch.float64)
        reward[where] = found
        keeps = torch.ones_like(valid) if not made else found > -math.inf
        number = torch.full_like(reward, -1).long()
        count = sum(len(rows) for rows in state.kept)
        number[moved.group[keeps], moved.slot[keeps] - made] = count + torch.arange(int(keeps.sum()))
        assert moved.rows is not None
        kept = (*state.kept, moved.rows.take(keeps.nonzero()[:, 0])) if keeps.any() else state.kept
        p = state.particles if made else replace(state.particles, reward=reward)
        state = replace(
            state,
            particles=p,
            reward=torch.cat([state.reward, reward], 1),
            stored=torch.cat([state.stored, number], 1),
            kept=kept,
            flight=None,
            was_scored=was_scored,
        )
        state = self._set_out(engine, state)
        if state.is_done and not was_scored:
            reason = scored.reasons[0] if scored.reasons else "NaN or +inf"
            raise RewardError(
                f"the reward has no valid score for any of {state.reward.numel()} samples: {reason}"
            )
        return state

    def _finish(self, engine: Engine, state: AliveState) -> AliveState:
        p, trials = ends_of(engine, state)
        engine.notes["trials"] = trials.tolist()
        engine.notes["alive"] = state.alive.sum(1).tolist()
        log_weights = torch.where(p.reward > -math.inf, p.value, -torch.inf)
        p = replace(p, log_weights=log_weights, log_evidence=math.log(state.n) - trials.double().log())
        return replace(state, particles=p, is_done=True, kept=(), flight=None)


def ends_of(engine: Engine, state: AliveState) -> tuple[Particles, Int64[Tensor, " g"]]:
    """The first n alive samples of every group, and the number of trials that they stand for.

    Where a group has fewer, dead ones of the first round fill the places.
    """
    rank = state.alive.long().cumsum(1)
    last = state.alive & (rank == state.n + 1)
    made = (~state.reward.isnan()).sum(1)
    # the trials before the one that ended the search, or all of them
    trials = torch.where(last.any(1), last.long().argmax(1), made)
    is_kept = state.alive & (rank <= state.n)
    order = torch.where(is_kept, 0, torch.where(state.stored >= 0, 1, 2)).argsort(dim=1, stable=True)
    index = order[:, : state.n]
    reward = state.reward.gather(1, index)
    is_alive = is_kept.gather(1, index)
    reward = torch.where(is_alive, reward, -torch.inf)
    value = torch.where(is_alive, engine.tilt * reward if engine.tilt else 0.0, -torch.inf)
    p = replace(
        Particles.first(fetched(engine, state.kept, state.stored.gather(1, index).reshape(-1)), *index.shape),
        reward=reward,
        value=value,
        valid=is_alive,
        level=torch.full_like(index, engine.steps - 1),
        scored=torch.full_like(index, engine.steps - 1),
        eve=index,
    )
    return engine.score(engine.jump(p)), trials
