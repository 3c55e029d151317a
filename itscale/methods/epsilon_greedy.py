"""Epsilon-greedy search: at every step try noises near the best one, and now and then fresh ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import (
    Claim,
    Cost,
    Needs,
    Plan,
    State,
    advance,
    check_count,
    check_fraction,
    plan_particles,
)
from itscale.noise import Purpose


@dataclass(frozen=True, kw_only=True)
class EpsilonGreedy:
    """N chains; at each noisy step, J rounds of M candidates for its noise, scored where they lead.

    The pivot is the noise whose denoised sample scores highest so far. A candidate is fresh with probability
    ``epsilon``, else ``(pivot + rho xi) / sqrt(1 + rho^2)`` with ``rho`` uniform up to ``radius``: as normal
    as any noise. The pivot moves to the best candidate if that is better, and the chain then goes where the
    pivot has led. Each noise is chosen for what follows from it at once.

    Cost with one evaluation a step: N (1 + (1 + J M) (T - 1)) NFE, N (1 + J M) (T - 1) reward calls. It is a
    search: no target, and the more rounds the further from the data.

    Attributes:
        particles: N; None takes what the budget allows.
        rounds: J.
        candidates: M.
        epsilon: probability of a fresh candidate.
        radius: longest way from the pivot, as a share of the length of a typical noise.

    Reference:
        "epsilon-greedy" search over trajectories, with 0.4, 20 rounds of 4 and radius 0.15, as in a public
        re-implementation. A departure: candidates there are rescaled to one length.
    """

    particles: int | None = None
    rounds: int = 20
    candidates: int = 4
    epsilon: float = 0.4
    radius: float = 0.15
    has_lineage: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("rounds", self.rounds)
        check_count("candidates", self.candidates)
        check_fraction("epsilon", self.epsilon)
        if not 0 < self.radius < math.inf:
            raise ConfigError(f"radius must be positive and finite, got {self.radius!r}")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, normal=True)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        tries = [1 + self.rounds * self.candidates if noisy else 1 for noisy in cost.noisy]
        tries[-1] = 1  # a jump, whose sample has been scored
        nfe = cost.steps + sum(t * extra for t, extra in zip(tries, cost.extra_looks, strict=True))
        nfe += sum(t - 1 for t in tries)
        calls = sum(t for t in tries if t > 1) + (len(tries) < 2 or tries[-2] == 1)
        early = sum(t for t in tries[:-2] if t > 1)
        return plan_particles(
            self.particles,
            1,
            lambda n: cost.plan(n, n * nfe, n * calls, n * early),
            budget,
            cost.rows_per_look,
            shrink="rounds, candidates or steps",
        )

    def init(self, engine: Engine, plan: Plan) -> State:
        return State(engine.look(engine.start(plan.particles)))

    def step(self, engine: Engine, state: State) -> State:
        """Take one step of every chain."""
        p, level = state.particles, int(state.particles.level[0, 0])
        if level == engine.steps - 1:
            return State(engine.score(engine.propose(p)), is_done=True)
        if not engine.is_noisy(level):
            return State(advance(engine, p))
        pivot = engine.score(engine.look(engine.propose(p, keep_noise=True)))
        for _ in range(self.rounds):
            pivot = self._round(engine, p, pivot)
        return State(pivot)

    def _round(self, engine: Engine, p: Particles, pivot: Particles) -> Particles:
        """Try candidates around the pivot, from where the chains stand; a new pivot must be better."""
        m, shape = self.candidates, (p.groups, p.n, self.candidates)
        u = engine.uniforms(pivot, Purpose.SELECT, 2 * p.n * m).reshape(p.groups, 2, p.n * m)
        length = self.radius * u[:, 0]
        cosine = torch.where(u[:, 1] < self.epsilon, 0.0, 1 / (1 + length**2).sqrt())
        tried = engine.propose(replace(p, move=pivot.move), children=m, near=(pivot, cosine), keep_noise=True)
        tried = engine.score(engine.look(tried))
        best, which = tried.scores.reshape(shape).max(dim=-1)
        own = torch.arange(p.n).expand(p.groups, -1)
        index = torch.where(best > pivot.scores, p.n + m * own + which, own)
        return engine.gather([pivot, tried], index)
