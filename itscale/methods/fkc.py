"""Feynman-Kac correctors: samples of a composition, weighted by what its drift leaves out."""

from __future__ import annotations

from dataclasses import dataclass

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
    plan_particles,
)
from itscale.particles import WhenESSBelow, get_scheme
from itscale.potentials import Difference


@dataclass(frozen=True, kw_only=True)
class FKC:
    """Weigh particles by the rate of their composition, and resample when the ESS is low.

    On ``a ** 0.7 * b ** 1.3`` the weighted samples follow the product, on a plain model they are unguided
    samples. A reward, if there is one, tilts by differences of its value, without gradients. All other
    particle methods take compositions too: the engine weighs, whatever steers.

    Cost: N T NFE, each of as many network rows as there are experts; with a reward as many reward calls.
    Target: the composition, tilted if there is a reward, as N grows and steps shrink; the error of the
    weights is that of the integration (``corrected(weights="kernel")`` has none where densities are known).

    Attributes:
        particles: N; None takes what the budget allows.
        ess_threshold: resample when ESS < this share of N; 0 never does (importance sampling).
        scheme: resampling scheme.
        interval: times between which particles are resampled; weights count everywhere.

    Reference:
        Skreta et al. (2025), "Feynman-Kac Correctors in Diffusion", arXiv:2503.02819.
    """

    particles: int | None = None
    ess_threshold: float = 0.9
    scheme: str = "systematic"
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)
        if not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ConfigError(f"interval must be (from, to) with 0 <= from < to <= 1, got {self.interval}")

    @property
    def needs(self) -> Needs:
        return Needs(reward=False)

    @property
    def claim(self) -> Claim:
        return Claim(None) if get_scheme(self.scheme).biased else Claim("tilted", "unbiased")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            scores = n * cost.steps if cost.has_reward else 0
            return cost.plan(n, n * cost.trajectory(), scores, max(0, scores - n))

        return plan_particles(self.particles, 64, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> State:
        return State(self._weighted(engine, State(engine.look(engine.start(plan.particles)))).particles)

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        level = int(p.level[0, 0])
        first, last = self.interval
        if engine.is_noisy(level) and first <= float(engine.times[level]) <= last:
            p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme)
        p = engine.propose(p)
        is_last = level + 1 == engine.steps
        return self._weighted(engine, State(p if is_last else engine.look(p), is_done=is_last))

    def _weighted(self, engine: Engine, state: State) -> State:
        p = state.particles
        if not engine.has_reward:
            return State(engine.weight(p), state.is_done)
        return State(engine.weight(engine.score(p), Difference()), state.is_done)
