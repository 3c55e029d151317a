"""LiDAR: moves that are pushed towards what scored well among cheap samples drawn before the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides import Guide, Population
from itscale.methods.base import Cost, Needs, Plan, check_count, plan_particles
from itscale.methods.twisted import TwistedSMC, TwistedState
from itscale.process import ComposedProcess, ContinuousProcess
from itscale.solvers.descent import Descent
from itscale.solvers.leg import InnerName, get_inner


@dataclass(frozen=True)
class LiDARState(TwistedState):
    """A run with its bank.

    Attributes:
        bank: cheap samples with their rewards, drawn before the first move.
    """

    bank: Particles | None = None


@dataclass(frozen=True, kw_only=True)
class LiDAR(TwistedSMC):
    """SMC whose moves are pushed by a bank of cheap samples: look-ahead sample guidance, with weights.

    A few samples of the model, drawn in a few steps and scored, tell where reward lies: the value ahead is
    ``log sum_j w_j exp(tilt r_j) - log sum_j w_j`` with the likelihoods ``w_j`` of the state given sample j,
    and its gradient needs neither network nor reward. The published method follows it without weights, far
    beyond what it is worth; here a push is at most ``cap`` standard deviations of a move, and paid for.

    Cost: N T NFE and reward calls, and for the bank B steps NFE and B reward calls. Target: the tilted law as
    N grows, with an unbiased evidence: the bank is drawn before the particles. In many dimensions a state
    sees one sample of the bank at a time, and at equal cost the population itself teaches as much
    (``CTS(drift="population")``).

    Attributes:
        bank: B, cheap samples per group.
        bank_steps: steps of each.
        bank_solver: ``"dpm++2m"`` or ``"ddim"``.
        cap: largest norm of a push in standard deviations of the move; None does not limit it.

    Reference:
        arXiv:2602.03211 (2026), look-ahead sample guidance; there 50 samples of 5 steps, a scale and no
        weights.
    """

    bank: int = 16
    bank_steps: int = 5
    bank_solver: InnerName = "dpm++2m"
    cap: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("bank", self.bank, 2)
        check_count("bank_steps", self.bank_steps)
        get_inner(self.bank_solver)
        if self.guide != "none" or self.spread is not None or self.schedule is not None:
            raise ConfigError(
                "LiDAR has a guide of its own and no schedule: leave guide, spread, schedule out"
            )

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, normal=True)

    def check(self, process: ContinuousProcess, times: torch.Tensor) -> None:
        """Raise ConfigError for a composition, whose experts say nothing of cheap samples."""
        if isinstance(process, ComposedProcess):
            raise ConfigError("LiDAR draws cheap samples of the model, and a composition is none; use 'smc'")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            plan = cost.plan(n, n * cost.trajectory(), n * cost.steps, n * (cost.steps - 1))
            drawn = self.bank * self.bank_steps
            return replace(plan, nfe=plan.nfe + drawn, reward_calls=plan.reward_calls + self.bank)

        return plan_particles(
            self.particles, 16, cost_of, budget, cost.rows_per_look, shrink="bank, bank_steps or steps"
        )

    def init(self, engine: Engine, plan: Plan) -> LiDARState:
        assert engine.process is not None
        kernel = Descent.build(engine.process, float(engine.times[0]), self.bank_steps, self.bank_solver)
        cheap = engine.mutate(engine.look(engine.start(self.bank)), kernel)
        bank = engine.score(replace(cheap, level=torch.full_like(cheap.level, engine.steps)))
        nothing = torch.zeros(engine.groups, dtype=torch.float64)
        sizes = self.sizes(plan.particles, engine.steps)
        first = engine.start(plan.particles, move=cheap.move)
        return self._seen(engine, LiDARState(first, exponent=nothing, sizes=sizes, bank=bank))

    def _guide(self, engine: Engine, state: Any, level: int) -> Guide:
        return Population(self._ahead(state, engine, level), torch.zeros(engine.steps), self.cap)

    def _context(self, state: Any) -> Particles:
        assert state.bank is not None
        return state.bank
