"""Zero-order search: try noises near the best one, and keep what scores higher."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, advance, check_count, plan_particles
from itscale.solvers.neighbour import Neighbour


@dataclass(frozen=True)
class SearchState(State):
    """Candidates on their way from noise to data.

    Attributes:
        tried: the candidates as they started, at level 0.
        pivot: (g, n), the noise of each chain's incumbent, at level 0.
        incumbent: (g, n), the best sample of each chain so far.
        failed: (g, n), chains whose last round brought nothing better.
        rounds: how many rounds are left after this one.
    """

    tried: Particles | None = None
    pivot: Particles | None = None
    incumbent: Particles | None = None
    failed: Bool[Tensor, "g n"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    rounds: int = 0

    def ended(self, engine: Engine) -> Particles:
        """The incumbents; before there are any, the candidates as they stand."""
        return super().ended(engine) if self.incumbent is None else self.incumbent


@dataclass(frozen=True, kw_only=True)
class ZeroOrderSearch:
    """N chains that search the initial noise: each round tries M and moves to the best if it is better.

    Candidates are ``c n + sqrt(1 - c^2) z`` around the noise n of the incumbent, so they are as normal as any
    noise. After a round without progress a chain tries fresh noises once; the incumbent is never lost. It
    runs on the ODE, where a noise is a sample.

    Cost: N T (1 + M rounds) NFE and N (1 + M rounds) reward calls. It is a search: no target, and the more
    rounds the further from the data. Random search is ``best-of-n``.

    Attributes:
        particles: N, the number of chains.
        neighbours: M.
        rounds: None spends the budget, or is 8 without one.
        cosine: c, between a candidate and its pivot.

    Reference:
        Ma et al. (2025), "Inference-Time Scaling for Diffusion Models beyond Scaling Denoising Steps",
        arXiv:2501.09732, section 3.2 (there on the sphere, and without the incumbent).
    """

    particles: int | None = None
    neighbours: int = 4
    rounds: int | None = None
    cosine: float = 0.95
    has_lineage = False

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("neighbours", self.neighbours)
        check_count("rounds", self.rounds)
        if not 0 <= self.cosine < 1:
            raise ConfigError(f"cosine must be in [0, 1), got {self.cosine!r}: 1 tries the same noise again")

    @property
    def needs(self) -> Needs:
        return Needs(normal=True, noise_start=True)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        if any(cost.noisy):
            raise ConfigError(
                "ZeroOrderSearch searches the initial noise, and this process adds noise on the way that "
                "undoes it; use process=ODE()"
            )
        n, each = self.particles or 2, cost.trajectory()

        def cost_of(rounds: int) -> Plan:
            tries = n * (1 + self.neighbours * rounds)
            return Plan(n, tries * each, tries)

        return plan_particles(
            self.rounds,
            8,
            cost_of,
            budget,
            cost.rows_per_look,
            shrink="neighbours, particles or steps",
            unit="rounds",
        )

    def init(self, engine: Engine, plan: Plan) -> SearchState:
        p = engine.look(engine.start(plan.particles))
        rounds = (plan.reward_calls // plan.particles - 1) // self.neighbours
        nobody = torch.zeros(p.level.shape, dtype=torch.bool)
        return SearchState(p, tried=p, failed=nobody, rounds=rounds)

    def step(self, engine: Engine, state: SearchState) -> SearchState:
        p = advance(engine, state.particles)
        if int(p.level[0, 0]) < engine.steps:
            return replace(state, particles=p)
        return self._next_round(engine, self._judged(engine, replace(state, particles=engine.score(p))))

    def _judged(self, engine: Engine, state: SearchState) -> SearchState:
        """Compare the candidates with what each chain has."""
        p, tried = state.particles, state.tried
        assert tried is not None
        if state.incumbent is None or state.pivot is None:
            return replace(state, incumbent=p, pivot=tried)
        chains = state.incumbent.n
        own = torch.arange(chains).expand(p.groups, -1)
        scores = p.reward.reshape(p.groups, chains, self.neighbours)
        best = scores.argmax(-1) + self.neighbours * own
        improves = p.reward.gather(1, best) > state.incumbent.reward
        index = torch.where(improves, chains + best, own)
        return replace(
            state,
            incumbent=engine.gather([state.incumbent, p], index),
            pivot=engine.gather([state.pivot, tried], index),
            failed=~improves,
        )

    def _next_round(self, engine: Engine, state: SearchState) -> SearchState:
        pivot, incumbent = state.pivot, state.incumbent
        assert pivot is not None
        assert incumbent is not None
        if not state.rounds:
            return replace(state, particles=incumbent, tried=None, pivot=None, is_done=True)
        move = torch.maximum(state.particles.move, pivot.move)
        index = torch.arange(pivot.n).repeat_interleave(self.neighbours).expand(pivot.groups, -1)
        around = replace(pivot.take(index), move=move)
        near = engine.mutate(around, Neighbour(self.cosine))
        fresh = engine.mutate(replace(around, move=near.move), Neighbour(0.0))
        restart = state.failed.gather(1, index)
        columns = torch.arange(near.n).expand(pivot.groups, -1)
        tried = engine.look(engine.gather([near, fresh], torch.where(restart, columns + near.n, columns)))
        return replace(state, particles=tried, tried=tried, rounds=state.rounds - 1)
