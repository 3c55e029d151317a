"""Guided sampling: moves pushed by a twist, with the weights that make up for it or without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides import Correction, Twist
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, check_fraction, plan_particles
from itscale.particles import WhenESSBelow, get_scheme
from itscale.potentials import Difference
from itscale.process import ComposedProcess, ContinuousProcess
from itscale.solvers.retreat import Retreat


@dataclass(frozen=True, kw_only=True)
class Guided(ABC):
    """Base of guided methods: a subclass is a frozen dataclass that says what the twist is.

    With ``correct`` the guided moves are proposals of twisted SMC: each costs ``log p - log q``, values of
    the twist telescope to the reward, particles are resampled. The target is then the tilted law as N grows,
    with an unbiased evidence, whatever the twist and the strength of its push. Without, each particle is the
    published sampler by itself, which follows no known law.

    Cost: N T NFE, and reward calls as many; going backwards ``backward`` times at all looks but the last. A
    step repeated R times (``recurrence``, within ``window``) costs R of each.

    Attributes:
        particles: N; None takes what the budget allows.
        correct: whether to weight.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.
        cap: largest norm of a push in standard deviations of the move. None does not limit it, but to 1 where
            weights have to pay for a push that is no gradient of a log-likelihood.
        recurrence: R, how often a step is made, each time but the last noised back ("time travel").
        window: shares of the levels within which steps are repeated.
    """

    particles: int | None = None
    correct: bool = False
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    cap: float | None = None
    recurrence: int = 1
    window: tuple[float, float] = (0.0, 1.0)
    is_scaled: ClassVar[bool] = True  # whether pushes are gradients of log-likelihoods

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("recurrence", self.recurrence)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)
        if self.cap is not None and not self.cap > 0:
            raise ConfigError(f"cap must be > 0 standard deviations of a move, or None, got {self.cap!r}")
        low, high = self.window
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"window must be two increasing shares in [0, 1], got {self.window!r}")

    @abstractmethod
    def twist(self, engine: Engine) -> Twist:
        """Return what guesses the value and pushes, for the engine's levels, tilt and measurement."""

    @abstractmethod
    def passes(self, size: int) -> int:
        """How often a row goes backwards at a look, for a measurement of that size."""

    def calls(self, size: int) -> int:
        """Reward calls of a look, for a measurement of that size; 0 is none."""
        return 1

    @property
    def measures(self) -> str:
        """What kind of likelihood the reward must be; ``""`` for any reward."""
        return ""

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, gradient=True, jumps=self.recurrence > 1, likelihood=self.measures)

    @property
    def claim(self) -> Claim:
        """The tilted law if weights are kept; without them none."""
        if not self.correct or get_scheme(self.scheme).biased:
            return Claim(None)
        return Claim("tilted", "unbiased")

    def check(self, process: ContinuousProcess, times: torch.Tensor) -> None:
        """Raise ConfigError for a composition, whose experts have no one denoised sample to push."""
        if isinstance(process, ComposedProcess):
            raise ConfigError(
                f"{type(self).__name__} pushes the denoised sample of one model; use 'tds' or 'smc'"
            )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        noisy = sum(cost.noisy)
        extra = {k: self.repeats(k, cost.steps) - 1 for k in range(cost.steps) if cost.noisy[k]}
        again, inner = sum(extra.values()), sum(cost.extra_looks[k] * r for k, r in extra.items())
        passes, calls = self.passes(cost.measurements), self.calls(cost.measurements)

        def cost_of(n: int) -> Plan:
            looks = n * (cost.trajectory() + again + inner)
            twisted = noisy + again
            return Plan(n, looks, n * (cost.steps - noisy + twisted * calls), n * twisted * passes)

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    @property
    def limit(self) -> float | None:
        """Largest norm of a push."""
        if self.cap is None and self.correct and not self.is_scaled:
            return 1.0
        return self.cap

    def repeats(self, level: int, steps: int) -> int:
        """How often the move from a level is made."""
        low, high = self.window
        return self.recurrence if low <= level / max(steps - 1, 1) <= high else 1

    def init(self, engine: Engine, plan: Plan) -> State:
        p = self._seen(engine, engine.start(plan.particles))
        return State(p)

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        level = int(p.level[0, 0])
        is_noisy = engine.is_noisy(level)
        for _ in range(self.repeats(level, engine.steps) - 1 if is_noisy else 0):
            p = self._seen(engine, self._returned(engine, self._moved(engine, p, recorded=False), level))
        if self.correct and is_noisy:
            p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme)
        p = self._moved(engine, p) if is_noisy else engine.propose(p)
        if level + 1 == engine.steps:
            return State(self._weighted(engine, engine.score(p)), is_done=True)
        return State(self._seen(engine, p))

    def _moved(self, engine: Engine, p: Particles, recorded: bool = True) -> Particles:
        return engine.propose(p, guide=Correction(self.limit), recorded=recorded)

    def _returned(self, engine: Engine, p: Particles, level: int) -> Particles:
        """Noise particles back to the level that they came from; slots stay as they are."""
        assert engine.process is not None
        times = engine.times
        back = Retreat.build(engine.process, float(times[level + 1]), float(times[level]))
        there = engine.mutate(p, back)
        return replace(there, level=torch.full_like(p.level, level))

    def _seen(self, engine: Engine, p: Particles) -> Particles:
        """Look and guess where the particles are; at the last look the reward itself is known."""
        if engine.is_noisy(int(p.level[0, 0])):
            p = engine.look(p, twist=self.twist(engine))
        else:
            p = engine.score(engine.look(p))
        return self._weighted(engine, p)

    def _weighted(self, engine: Engine, p: Particles) -> Particles:
        if self.correct:
            return engine.weight(p, Difference())
        return replace(p, log_ratio=torch.zeros_like(p.log_ratio))
