"""Waste-free SMC: few particles survive, move many times, and every state on the way is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, plan_particles
from itscale.methods.cycles import check_cycles, check_levels, check_reversible, cycle_at, looks_of_a_cycle
from itscale.methods.metropolis import metropolis_move
from itscale.methods.redraw import Redraw, redraw_move, remember
from itscale.methods.smc import SMC
from itscale.particles import WhenESSBelow
from itscale.process import ContinuousProcess
from itscale.solvers import Interval, Solver
from itscale.solvers.restart import nearest_level

Move: TypeAlias = Callable[[Particles], Particles]


@dataclass(frozen=True)
class WasteFreeState(State):
    """A population, and the earlier one that the next redraw goes back to."""

    past: Particles | None = None


@dataclass(frozen=True, kw_only=True)
class WasteFreeSMC:
    """SMC that at chosen levels keeps N / P particles and makes P of each, by moves that keep the target.

    At the level of a move N / P particles are drawn in proportion to their weights; each moves
    ``repeats = P - 1`` times, accepted by the growth of its value, and all its P states go on with equal
    weights. Moves are of two kinds: a ``Redraw`` makes the last steps of a particle anew, an ``Interval`` is
    a Restart cycle as in ``RestartSMC``, which would move all N and keep the last states only. States of one
    chain are correlated: independent groups say how sure a result is, the N particles of one do not.

    Cost with a one-evaluation solver: N T NFE as SMC, and per move ``(N / P) (P - 1)`` times the steps that a
    redraw makes anew, or (points - 1) evaluations of the inner solver + 1; a reward call for each. Target:
    the tilted law as N grows, with an unbiased evidence. With redraws that holds for any model and solver;
    with cycles as far as they keep the law of the level, that is with an exact score and a way down in fine
    steps.

    Attributes:
        particles: N, a multiple of P (of every P, if moves differ); None takes what the budget allows.
        moves: any number of ``Redraw`` or ``Interval``, each at a level of its own, with ``repeats = P - 1``.
        inner: solver of a cycle's way down, of the SDE, or its name.
        ess_threshold, scheme: as in ``SMC``, for the levels between.

    Reference:
        Dau and Chopin (2022), "Waste-free Sequential Monte Carlo", arXiv:2011.02328, Algorithm 2.
    """

    particles: int | None = None
    moves: tuple[Redraw | Interval, ...] = (Redraw(),)
    inner: str | Solver = "2m-sde"
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, jumps=bool(self.intervals))

    @property
    def claim(self) -> Claim:
        return self._smc().claim

    @property
    def multiple(self) -> int:
        """What N must be a multiple of: P, or the least common multiple of several."""
        return math.lcm(*(1 + move.repeats for move in self.moves))

    @property
    def redraws(self) -> list[Redraw]:
        return sorted((m for m in self.moves if isinstance(m, Redraw)), key=lambda m: m.end)

    @property
    def intervals(self) -> list[Interval]:
        return [m for m in self.moves if isinstance(m, Interval)]

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        object.__setattr__(self, "moves", tuple(self.moves))
        if not self.moves or len(self.redraws) + len(self.intervals) < len(self.moves):
            raise ConfigError(f"moves must be one or more Redraw(...) or Interval(...), got {self.moves!r}")
        if self.intervals:
            check_cycles(self.intervals, self.inner)
            check_reversible(self.inner, ", or a Redraw(...) in place of the interval")
        for before, after in pairwise(self.redraws):
            if after.start < before.end:
                raise ConfigError(f"redraws overlap: {before} and {after}; part them")
        if self.particles is not None and self.particles % self.multiple:
            raise ConfigError(
                f"particles must be a multiple of {self.multiple} (1 + repeats of every move), got "
                f"{self.particles}; change it, or repeats"
            )
        self._smc()

    def _smc(self) -> SMC:
        return SMC(particles=self.particles, ess_threshold=self.ess_threshold, scheme=self.scheme)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for moves that do not fit the grid."""
        cycles = check_levels(process, times, self.intervals)
        for redraw in self.redraws:
            first, last = redraw.levels(len(times) - 1)
            if inside := [level for level in cycles if first < level < last]:
                raise ConfigError(
                    f"{redraw} makes levels {first} to {last} anew, and a cycle at level {inside[0]} forgets "
                    "the path that it needs; move one of them"
                )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        kappa, last = torch.tensor(cost.kappa, dtype=torch.float64), cost.steps - 1
        moves = [(m.repeats, m.looks(cost), m.levels(cost.steps)[1] < last) for m in self.redraws]
        moves += [
            (i.repeats, looks_of_a_cycle(i, self.inner), nearest_level(kappa, i) < last)
            for i in self.intervals
        ]

        def cost_of(count: int) -> Plan:
            n = count * self.multiple
            moved = [(n // (1 + repeats) * repeats, each, is_early) for repeats, each, is_early in moves]
            nfe = n * cost.trajectory() + sum(times * each for times, each, _ in moved)
            early = n * last + sum(times for times, _, is_early in moved if is_early)
            return cost.plan(n, nfe, n * cost.steps + sum(times for times, _, _ in moved), early)

        return plan_particles(
            self.particles and self.particles // self.multiple,
            max(1, 16 // self.multiple),
            cost_of,
            budget,
            cost.rows_per_look,
            shrink="repeats or steps",
            unit=f"times {self.multiple} particles",
        )

    def init(self, engine: Engine, plan: Plan) -> WasteFreeState:
        return WasteFreeState(self._smc().init(engine, plan).particles)

    def step(self, engine: Engine, state: WasteFreeState) -> WasteFreeState:
        p, past = state.particles, state.past
        level = int(p.level[0, 0])
        for redraw in self.redraws:
            if past is not None and level == redraw.levels(engine.steps)[1]:
                at = past
                p = self._moved(engine, p, redraw.repeats, lambda q, at=at: redraw_move(engine, q, at))
                past = None
        if found := cycle_at(engine, level, self.intervals, self.inner):
            kernel, repeats = found
            p = self._moved(engine, p, repeats, lambda q: metropolis_move(engine, q, kernel))
        if level in (redraw.levels(engine.steps)[0] for redraw in self.redraws):
            p = past = remember(p)
        done = self._smc().step(engine, State(p))
        return replace(state, particles=done.particles, is_done=done.is_done, past=past)

    def _moved(self, engine: Engine, p: Particles, repeats: int, move: Move) -> Particles:
        """Draw the few, move them, and gather all states."""
        rule = WhenESSBelow(self.ess_threshold)  # not asked: another number always resamples
        states = [engine.resample(p, rule, self.scheme, p.n // (1 + repeats))]
        for _ in range(repeats):
            states.append(move(states[-1]))
        return engine.gather(states, torch.arange(p.n).expand(p.groups, -1))
