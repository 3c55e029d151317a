"""Waste-free SMC: few particles survive, move many times, and every state on the way is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, plan_particles
from itscale.methods.cycles import check_cycles, check_levels, check_reversible, cycle_at, looks_of_a_cycle
from itscale.methods.metropolis import metropolis_move
from itscale.methods.smc import SMC
from itscale.particles import WhenESSBelow
from itscale.process import ContinuousProcess
from itscale.solvers import Interval, Solver


@dataclass(frozen=True, kw_only=True)
class WasteFreeSMC:
    """SMC that at chosen levels keeps N / P particles and makes P of each, by accepted Restart cycles.

    At the level of an interval N / P particles are drawn in proportion to their weights; each makes
    ``repeats = P - 1`` cycles that are accepted as in ``RestartSMC``, and all its P states go on with equal
    weights. ``RestartSMC`` would cycle all N and keep the last states only. States of one chain are
    correlated: independent groups say how sure a result is, the N particles of one do not.

    Cost with a one-evaluation solver: N T NFE as SMC, and per interval ``(N / P) (P - 1)`` times (points - 1)
    evaluations of the inner solver + 1; a reward call for each of these cycles. Target: the tilted law as N
    grows, with an unbiased evidence, both as exact as the cycles: each of the P states has the law of the
    first because a cycle keeps ``p_k exp(v)``, p_k the exact law of the level. That holds with an exact
    score and with a way down in fine steps, as for accepted cycles in ``RestartSMC``.

    Attributes:
        particles: N, a multiple of P (of every P, if intervals differ); None takes what the budget allows.
        intervals: where, how far up, in how many steps down, and with ``repeats = P - 1``.
        inner: solver of the way down, of the SDE, or its name.
        ess_threshold, scheme: as in ``SMC``, for the levels between.

    Reference:
        Dau and Chopin (2022), "Waste-free Sequential Monte Carlo", arXiv:2011.02328, Algorithm 2.
    """

    particles: int | None = None
    intervals: tuple[Interval, ...] = (Interval(kappa_min=0.3, kappa_max=1.0, points=5, repeats=3),)
    inner: str | Solver = "2m-sde"
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    @property
    def claim(self) -> Claim:
        return self._smc().claim

    @property
    def multiple(self) -> int:
        """What N must be a multiple of: P, or the least common multiple of several."""
        return math.lcm(*(1 + i.repeats for i in self.intervals))

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        object.__setattr__(self, "intervals", tuple(self.intervals))
        check_cycles(self.intervals, self.inner)
        check_reversible(self.inner)
        if self.particles is not None and self.particles % self.multiple:
            raise ConfigError(
                f"particles must be a multiple of {self.multiple} (1 + repeats of every interval), got "
                f"{self.particles}; change it, or repeats"
            )
        self._smc()

    def _smc(self) -> SMC:
        return SMC(particles=self.particles, ess_threshold=self.ess_threshold, scheme=self.scheme)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for intervals that do not fit the grid."""
        check_levels(process, times, self.intervals)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(count: int) -> Plan:
            n = count * self.multiple
            nfe, calls = n * cost.trajectory(), n * cost.steps
            for interval in self.intervals:
                cycles = n // (1 + interval.repeats) * interval.repeats
                nfe += cycles * looks_of_a_cycle(interval, self.inner)
                calls += cycles
            return Plan(n, nfe, calls)

        return plan_particles(
            self.particles and self.particles // self.multiple,
            max(1, 16 // self.multiple),
            cost_of,
            budget,
            cost.rows_per_look,
            shrink="repeats or steps",
            unit="particles" if self.multiple == 1 else f"times {self.multiple} particles",
        )

    def init(self, engine: Engine, plan: Plan) -> State:
        return self._smc().init(engine, plan)

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        found = cycle_at(engine, int(p.level[0, 0]), self.intervals, self.inner)
        if found is not None:
            kernel, repeats = found
            n = p.n
            rule = WhenESSBelow(self.ess_threshold)  # not asked: another number always resamples
            states = [engine.resample(p, rule, self.scheme, n // (1 + repeats))]
            for _ in range(repeats):
                states.append(metropolis_move(engine, states[-1], kernel))
            p = engine.gather(states, torch.arange(n).expand(p.groups, -1))
        return self._smc().step(engine, State(p))
