"""SMC with Restart: particles go back up to noise and come down anew, and the tilted law is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, plan_particles
from itscale.methods.cycles import check_cycles, check_levels, check_reversible, cycle_at, looks_of_a_cycle
from itscale.methods.metropolis import metropolis_move
from itscale.methods.smc import SMC
from itscale.particles import WhenESSBelow
from itscale.potentials import Difference
from itscale.process import ContinuousProcess
from itscale.solvers import Interval, Solver
from itscale.solvers.restart import CycleKernel, nearest_level


@dataclass(frozen=True, kw_only=True)
class RestartSMC:
    """SMC whose particles make Restart cycles at chosen levels, after resampling.

    A cycle leaves the base law p as it is, not the tilted law ``p exp(v)`` with ``v = tilt r(denoised)``: a
    cycle without a weight moves particles back towards p. Two rules are right:

    - ``"metropolis"`` accepts a cycle with probability ``min(1, exp(v_new - v_old))``. It keeps the tilted
      law because a cycle that comes down by the reverse SDE is reversible; with an ODE down it is not, and
      that is refused. Right up to the discretisation error of the cycles, like the solver itself.
    - ``"weight"`` moves every particle and multiplies its weight by ``exp(v_new - v_old)``: right with any
      inner solver (the cycles become part of the base sampler), and degenerate where cycles go far up.

    Cost with a one-evaluation solver: N T NFE as SMC, and per cycle N ((points - 1) evaluations of the inner
    solver + 1) NFE and N reward calls. Target: the tilted law as N grows.

    Attributes:
        particles: N; None takes what the budget allows.
        intervals: where, how far up, in how many steps down and how often; see ``solvers.Interval``.
        rule: ``"metropolis"`` or ``"weight"``.
        inner: solver of the way down, or its name.
        ess_threshold, scheme: as in ``SMC``.

    Reference:
        Xu et al. (2023), arXiv:2306.14878, for the cycle; Del Moral, Doucet and Jasra (2006), "Sequential
        Monte Carlo Samplers", section 3.3, for moves that keep a target, and their weights.
    """

    particles: int | None = None
    intervals: tuple[Interval, ...] = (Interval(kappa_min=0.3, kappa_max=1.0, points=5),)
    rule: Literal["metropolis", "weight"] = "metropolis"
    inner: str | Solver = "2m-sde"
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, jumps=True)

    @property
    def claim(self) -> Claim:
        return Claim("tilted", "unbiased")

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        object.__setattr__(self, "intervals", tuple(self.intervals))
        if self.rule not in ("metropolis", "weight"):
            raise ConfigError(
                f"rule must be 'metropolis' or 'weight', got {self.rule!r}: a cycle without either moves "
                "particles back to the untilted law"
            )
        check_cycles(self.intervals, self.inner)
        if self.rule == "metropolis":
            check_reversible(self.inner, ", or rule='weight'")
        self._smc()

    def _smc(self) -> SMC:
        return SMC(particles=self.particles, ess_threshold=self.ess_threshold, scheme=self.scheme)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for intervals that do not fit the grid."""
        check_levels(process, times, self.intervals)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        sweeps = sum(i.repeats for i in self.intervals)
        looks = sum(i.repeats * looks_of_a_cycle(i, self.inner) for i in self.intervals)

        kappa = torch.tensor(cost.kappa, dtype=torch.float64)
        last = cost.steps - 1
        late = 1 + sum(i.repeats for i in self.intervals if nearest_level(kappa, i) == last)

        def cost_of(n: int) -> Plan:
            scores = cost.steps + sweeps
            return cost.plan(n, n * (cost.trajectory() + looks), n * scores, n * (scores - late))

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> State:
        return self._smc().init(engine, plan)

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        level = int(p.level[0, 0])
        found = cycle_at(engine, level, self.intervals, self.inner)
        if found is not None:
            kernel, repeats = found
            if engine.is_noisy(level):
                p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme)
            for _ in range(repeats):
                p = self._cycle(engine, p, kernel)
        return self._smc().step(engine, State(p))

    def _cycle(self, engine: Engine, p: Particles, kernel: CycleKernel) -> Particles:
        if self.rule == "metropolis":
            return metropolis_move(engine, p, kernel)
        return engine.weight(engine.score(engine.look(engine.mutate(p, kernel))), Difference())
