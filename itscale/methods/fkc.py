"""Feynman-Kac correctors: samples of a composition, weighted by what its drift leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
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
from itscale.models.composition import name_of
from itscale.particles import WhenESSBelow, get_scheme
from itscale.potentials import Difference
from itscale.process import ComposedProcess, ContinuousProcess
from itscale.solvers import LangevinMove


@dataclass(frozen=True)
class FKCState(State):
    """Particles that are weighted, and those that only follow the drift.

    Attributes:
        uncorrected: neither weighted nor resampled; None where the method has none.
    """

    uncorrected: Particles | None = None


@dataclass(frozen=True, kw_only=True)
class FKC:
    """Weigh particles by the rate of their composition, and resample when the ESS is low.

    On ``a ** 0.7 * b ** 1.3`` the weighted samples follow the product, on a plain model they are unguided
    samples. A reward, if there is one, tilts by differences of its value, without gradients. All other
    particle methods take compositions too: the engine weighs, whatever steers.

    Cost: N T NFE, each of as many network rows as there are experts; with a reward as many reward calls.
    ``corrections`` take N (T - 1) more of both each, ``uncorrected`` particles T NFE each.
    Target: the composition, tilted if there is a reward, as N grows and steps shrink; the error of the
    weights is that of the integration (``corrected(weights="kernel")`` has none where densities are known).

    Attributes:
        particles: N; None takes what the budget allows.
        ess_threshold: resample when ESS < this share of N; 0 never does (importance sampling).
        scheme: resampling scheme.
        interval: times between which particles are resampled; weights count everywhere.
        corrections: Langevin moves at every level but the first, after resampling; they leave the law of the
            level as it is and part copies.
        correction_size: of such a move, in units of the noise level; unadjusted moves are too wide by a share
            of about half its square in variance.
        adjusted: whether moves are accepted by a Metropolis test, where all experts know their densities.
        uncorrected: particles beside the others that follow the same drift from the same noise and are
            neither weighted nor resampled: the usual shortcut where the product has gauge ``"none"``, or
            exponents of sum 1. They come home in ``result.uncorrected``.

    Reference:
        Skreta et al. (2025), "Feynman-Kac Correctors in Diffusion", arXiv:2503.02819; Du et al. (2023),
        arXiv:2302.11552, for the moves.
    """

    particles: int | None = None
    ess_threshold: float = 0.9
    scheme: str = "systematic"
    interval: tuple[float, float] = (0.0, 1.0)
    corrections: int = 0
    correction_size: float = 0.3
    adjusted: bool = False
    uncorrected: int = 0

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        check_count("corrections", self.corrections, 0)
        check_count("uncorrected", self.uncorrected, 0)
        get_scheme(self.scheme)
        if not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ConfigError(f"interval must be (from, to) with 0 <= from < to <= 1, got {self.interval}")
        if not 0 < self.correction_size < 1:
            raise ConfigError(f"correction_size must be in (0, 1), got {self.correction_size!r}")
        if self.adjusted and not self.corrections:
            raise ConfigError("adjusted=True is about corrections, and there are none; set corrections=1")

    @property
    def needs(self) -> Needs:
        return Needs(reward=False, jumps=self.corrections > 0)

    @property
    def claim(self) -> Claim:
        return Claim(None) if get_scheme(self.scheme).biased else Claim("tilted", "unbiased")

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError where moves are to be accepted by densities that are not known."""
        if not self.adjusted:
            return
        if not isinstance(process, ComposedProcess):
            raise ConfigError(
                "adjusted=True needs the log-density of a product; write one model as model ** 1, or use "
                "adjusted=False"
            )
        for expert in process.product.experts:
            if not hasattr(expert, "marginal_log_prob"):
                raise ConfigError(
                    "adjusted=True needs the density of every expert at every time, and "
                    f"{name_of(expert)} has none (marginal_log_prob); use adjusted=False"
                )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        moves = self.corrections * (cost.steps - 1)
        aside = self.uncorrected * cost.trajectory()
        late = 1 + self.corrections * (cost.steps > 1)  # scores at the last look

        def cost_of(n: int) -> Plan:
            scores = n * (cost.steps + moves) if cost.has_reward else 0
            early = max(0, scores - n * late)
            return cost.plan(n, n * (cost.trajectory() + moves) + aside, scores, early)

        return plan_particles(self.particles, 64, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> FKCState:
        p = self._weighted(engine, engine.look(engine.start(plan.particles)))
        aside = engine.look(engine.start(self.uncorrected)) if self.uncorrected else None
        return FKCState(p, uncorrected=aside)

    def step(self, engine: Engine, state: FKCState) -> FKCState:
        p, aside = state.particles, state.uncorrected
        level = int(p.level[0, 0])
        is_last = level + 1 == engine.steps
        first, last = self.interval
        if engine.is_noisy(level) and first <= float(engine.times[level]) <= last:
            p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme)
        if level > 0:
            p = self._mixed(engine, p, level)
        p = engine.propose(p)
        p = self._weighted(engine, p if is_last else engine.look(p))
        if aside is not None:
            aside = engine.propose(replace(aside, move=p.move - 1), recorded=False)  # by the same noise
            aside = aside if is_last else engine.look(aside)
        return replace(state, particles=p, is_done=is_last, uncorrected=aside)

    def _mixed(self, engine: Engine, p: Particles, level: int) -> Particles:
        """Make the Langevin moves of a level."""
        if not self.corrections:
            return p
        assert engine.process is not None
        kernel = LangevinMove(engine.process.interpolant.sigma(engine.times), self.correction_size)
        for _ in range(self.corrections):
            moved = engine.look(engine.mutate(p, kernel))
            if self.adjusted:
                moved = engine.accept(p, moved, engine.langevin_ratio(p, moved, kernel))
            p = self._weighted(engine, moved)
        return p

    def _weighted(self, engine: Engine, p: Particles) -> Particles:
        if not engine.has_reward:
            return engine.weight(p)
        return engine.weight(engine.score(p), Difference())
