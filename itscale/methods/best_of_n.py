"""Best-of-N: draw N, keep the best; or draft N in few steps, and finish the best drafts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods import independent
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, plan_particles
from itscale.process import ContinuousProcess, ExpertsProcess
from itscale.solvers.descent import Descent
from itscale.solvers.leg import InnerName, get_inner


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """N independent samples, of which ``result.best()`` is the answer.

    With ``draft_steps`` all N are only drafted, by that many steps of the ODE; drafts are scored, and the
    best ``finish`` of them are sampled anew from the same initial noise by the run's own solver and steps. On
    the ODE a noise is a sample, so that a draft is a coarse view of it; noise on the way makes it less.

    Cost: N T NFE and N reward calls. With drafts N m + F (T - 1) NFE for m draft steps and F finished ones,
    whose first look the draft has made, and N + F reward calls. It is a search: the best of N follows no
    tilted law, and its divergence from the base law is at most log N - (N - 1) / N (Beirami et al. 2024,
    arXiv:2401.01879).

    Attributes:
        particles: N.
        draft_steps: m; None samples all N in full.
        finish: F; None is a quarter of N, rounded up.
        draft_solver: ``"dpm++2m"`` or ``"ddim"``.
    """

    particles: int | None = None
    draft_steps: int | None = None
    finish: int | None = None
    draft_solver: InnerName = "dpm++2m"

    @property
    def needs(self) -> Needs:
        return Needs(normal=self.draft_steps is not None)

    def __post_init__(self) -> None:
        for name in ("particles", "draft_steps", "finish"):
            check_count(name, getattr(self, name))
        get_inner(self.draft_solver)
        if self.finish is None:
            return
        if self.draft_steps is None:
            raise ConfigError(
                f"finish={self.finish} is about drafts, and there are none; set draft_steps, or leave it out"
            )
        if self.particles is not None and self.finish > self.particles:
            raise ConfigError(
                f"finish={self.finish} is more than there are drafts, particles={self.particles}"
            )

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def check(self, process: ContinuousProcess, times: torch.Tensor) -> None:
        """Raise ConfigError for drafts of a composition, whose ODE does not lead to its law."""
        if self.draft_steps is not None and isinstance(process, ExpertsProcess):
            raise ConfigError(
                "draft_steps drafts by the ODE of one model, and a composition is none; leave it out"
            )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        if self.draft_steps is None:
            return independent.plan_trajectories(self.particles, 16, cost, budget, scored=True)
        drafts = self.draft_steps

        def cost_of(n: int) -> Plan:
            finished = self._finished(n)
            return Plan(n, n * drafts + finished * (cost.trajectory() - 1), n + finished)

        return plan_particles(
            self.particles,
            16,
            cost_of,
            budget,
            cost.rows_per_look,
            self.finish or 1,
            shrink="draft_steps, finish or steps",
        )

    def init(self, engine: Engine, plan: Plan) -> State:
        state = independent.start(engine, plan)
        return state if self.draft_steps is None else State(self._chosen(engine, state, self.draft_steps))

    def step(self, engine: Engine, state: State) -> State:
        return independent.move(engine, state)

    def _finished(self, n: int) -> int:
        return -(-n // 4) if self.finish is None else self.finish

    def _chosen(self, engine: Engine, state: State, steps: int) -> Particles:
        """Draft from the noises, and keep those with the best drafts, as they were looked at."""
        p = state.particles
        assert engine.process is not None
        kernel = Descent.build(engine.process, float(engine.times[0]), steps, self.draft_solver)
        drafts = engine.mutate(p, kernel)
        drafts = engine.score(replace(drafts, level=torch.full_like(drafts.level, engine.steps)))
        best = drafts.scores.sort(dim=1, descending=True, stable=True).indices[:, : self._finished(p.n)]
        return engine.select(replace(p, move=drafts.move), best)
