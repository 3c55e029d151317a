"""Ensemble Kalman guidance: the particles' own spread in place of gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides.ensemble import EnsembleKalman
from itscale.methods.base import (
    Claim,
    Cost,
    Needs,
    Plan,
    State,
    advance,
    check_count,
    check_positive,
    plan_particles,
)
from itscale.process import ComposedProcess, ContinuousProcess


@dataclass(frozen=True, kw_only=True)
class EnKG:
    """Moves pushed by the ensemble's covariance between samples and what is measured of them.

    The operator is only called: no gradient, no adjoint, no linearity. All particles of a group are one
    ensemble; with fewer than there are measurements that matter the push is confined to their span, so it
    wants hundreds. It follows no known law: the spread of the denoised samples stands for that of the data
    given a state, and there are no weights.

    Cost: N T NFE, never backwards, and N reward calls; operator calls for the whole ensemble at every
    micro-batch.

    Attributes:
        particles: N >= 2, one ensemble; None takes what the budget allows.
        strength: factor on the Kalman move.
        cap: largest norm of a push in standard deviations of the move; None does not limit it.

    Reference:
        Zheng et al. (2024), "Ensemble Kalman Diffusion Guidance: A Derivative-free Method for Inverse
        Problems", arXiv:2409.20175. A departure: pushes are part of the sampler's moves, whatever they are,
        and not steps of an ODE of their own.
    """

    particles: int | None = None
    strength: float = 1.0
    cap: float | None = None

    def __post_init__(self) -> None:
        check_count("particles", self.particles, 2)
        check_positive("strength", self.strength)
        if self.cap is not None and not self.cap > 0:
            raise ConfigError(f"cap must be > 0 standard deviations of a move, or None, got {self.cap!r}")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, normal=True, likelihood="any")

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def check(self, process: ContinuousProcess, times: torch.Tensor) -> None:
        """Raise ConfigError for a composition, which has no one denoised sample to measure."""
        if isinstance(process, ComposedProcess):
            raise ConfigError("EnKG pushes the denoised sample of one model; use 'smc' for a composition")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            return Plan(n, n * cost.trajectory(), n)

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look, minimum=2)

    def init(self, engine: Engine, plan: Plan) -> State:
        return State(engine.look(engine.start(plan.particles)))

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        if not engine.is_noisy(int(p.level[0, 0])):
            p = advance(engine, p)
        else:
            assert engine.observed is not None
            guide = EnsembleKalman(engine.observed, self.strength, self.cap)
            p = _unpaid(engine.look(engine.propose(p, guide=guide)))
        if int(p.level[0, 0]) == engine.steps:
            return State(engine.score(p), is_done=True)
        return State(p)


def _unpaid(p: Particles) -> Particles:
    """Drop what weights would pay for the push: there are none."""
    return replace(p, log_ratio=torch.zeros_like(p.log_ratio))
