"""AFDPS: an ensemble that follows the likelihood of the noisy state, weighted by the equation of its law."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides import Bridge, View
from itscale.methods.base import (
    Claim,
    Cost,
    Needs,
    Plan,
    State,
    check_count,
    check_fraction,
    forget_weights,
    plan_particles,
)
from itscale.methods.restored import levels_of
from itscale.operators import Observed
from itscale.particles import WhenESSBelow, get_scheme
from itscale.process import ComposedProcess, ContinuousProcess, Evaluation
from itscale.solvers.projections import MeasuredMove
from itscale.types import State as States

STEP = 0.1
"""Largest change of s^2 in units of tau^2 for the likelihood at full strength."""


@dataclass(frozen=True, eq=False)
class Downhill:
    """The drift ``-(s^2 - s'^2) grad U(z)`` of ``U = sum_i (ybar_i - z_i)^2 P_i / 2``, as a shift of the
    noise.

    Attributes:
        facts: the measurement and the levels.
        precision: P per level and coordinate, (levels, m).
    """

    facts: MeasuredMove
    precision: Tensor
    wants_context: ClassVar[bool] = False

    def __call__(self, view: View) -> States:
        assert isinstance(view.level, int)
        k, f = view.level, self.facts
        v, o = f.measured(view.here.x / f.alpha[k])
        slope = self.precision[k].to(o) * (o - f.value(o))
        zero = torch.zeros_like(v)
        slope = f.replaced(zero, slope)
        step = f.square(k) - f.square(k + 1)
        return -f.alpha[k + 1] * step / float(view.bridge.std[k]) * slope


@dataclass(frozen=True, eq=False)
class Growth:
    """The log-weight over a move: ``h ((|grad U|^2 - Laplace U) / 2 - score . grad U)`` and what U itself
    gains.

    Reference:
        Chen et al. (2025), "Solving Inverse Problems via Diffusion-Based Priors: An Approximation-Free
        Ensemble Sampling Approach", the weighted particle form with V = G.
    """

    facts: MeasuredMove
    precision: Tensor

    def __call__(self, at: Evaluation, level: int, bridge: Bridge) -> Tensor:
        f = self.facts
        _, o = f.measured(at.x / f.alpha[level])
        _, d = f.measured(at.denoised)
        o, d = o.double(), d.double()
        value, here, ahead = f.value(o), self.precision[level].to(o), self.precision[level + 1].to(o)
        slope = here * (o - value)
        h = f.square(level) - f.square(level + 1)
        score = (d - o) / f.square(level)
        rate = (slope.square() - here) / 2 - score * slope
        gained = (ahead - here) * (o - value).square() / 2
        return (h * rate - gained).sum(1)


@dataclass(frozen=True, eq=False)
class Energy:
    """``sign U(z)`` at a level."""

    facts: MeasuredMove
    precision: Tensor
    sign: float

    def __call__(self, at: Evaluation, level: int, bridge: Bridge) -> Tensor:
        _, o = self.facts.measured(at.x / self.facts.alpha[level])
        o = o.double()
        return self.sign * (self.precision[level].to(o) * (o - self.facts.value(o)).square()).sum(1) / 2


@dataclass(frozen=True, kw_only=True)
class AFDPS:
    """An ensemble with drift down the likelihood of the noisy state, and the weights that this asks for.

    The likelihood's strength follows ``tau^2 / (tau^2 + s^2)``; at full strength from the start
    (``tempered=False``)
    steps must be tiny, which is checked. ``ConjugateSMC`` does the same with conjugate moves and is better
    at equal
    cost. Right in the limit of many particles and small steps; so it claims nothing of a run with few.

    Cost: N T NFE, never backwards, and N reward calls.

    Attributes:
        particles: N; None takes what the budget allows.
        tempered: whether the likelihood is weakened at high noise.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.
    """

    particles: int | None = None
    tempered: bool = True
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, likelihood="conjugate")

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for a composition, whose weights are of another kind."""
        if isinstance(process, ComposedProcess):
            raise ConfigError("AFDPS weights the moves of one model; use 'smc' for a composition")

    def check_observed(self, observed: Observed, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError where the steps are too long for the likelihood at full strength."""
        if self.tempered:
            return
        square = process.interpolant.kappa(times[:-1]).square()
        longest = float((square[:-1] - square[1:])[square[:-1].isfinite()].max())
        most = STEP * float(observed.coordinates.tau.min()) ** 2
        if longest > most:
            raise ConfigError(
                f"tempered=False needs steps of at most {most:.3g} in (sigma/alpha)^2 and the grid has "
                f"{longest:.3g}: "
                "the ensemble would diverge; use tempered=True, more steps, or method='conjugate-smc'"
            )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            return Plan(n, n * cost.trajectory(), n)

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> State:
        if engine.tilt != 1:
            raise ConfigError(f"AFDPS samples the posterior, tilt 1; got tilt={engine.tilt}")
        p = engine.look(engine.start(plan.particles))
        facts, precision = self._facts(engine)
        return State(self._plus(p, engine.assess(p, Energy(facts, precision, -1.0))) if facts.alpha[0] else p)

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        level = int(p.level[0, 0])
        facts, precision = self._facts(engine)
        if not engine.is_noisy(level):
            p = self._plus(p, engine.assess(p, Energy(facts, precision, 1.0)))
            p = engine.score(engine.propose(p))
            p = self._plus(p, p.value)
            return State(forget_weights(engine.resample(p, WhenESSBelow(1.0), self.scheme)), is_done=True)
        if facts.alpha[level] == 0:  # pure noise says nothing yet: the ensemble begins after the first move
            p = engine.look(engine.propose(p))
            return State(self._plus(p, engine.assess(p, Energy(facts, precision, -1.0))))
        p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme)
        p = self._plus(p, engine.assess(p, Growth(facts, precision)))
        p = engine.propose(p, guide=Downhill(facts, precision))
        p = replace(
            p, log_ratio=torch.zeros_like(p.log_ratio)
        )  # the drift is part of the law, not a proposal
        return State(engine.look(p))

    def _facts(self, engine: Engine) -> tuple[MeasuredMove, Tensor]:
        assert engine.observed is not None
        facts = MeasuredMove(**levels_of(engine))
        tau = engine.observed.coordinates.tau
        squares = torch.tensor([facts.square(k) for k in range(engine.steps)], dtype=torch.float64)
        whole = torch.zeros_like(squares) if not self.tempered else squares
        return facts, 1 / (tau**2 + whole[:, None])

    def _plus(self, p: Particles, gain: Tensor) -> Particles:
        return replace(p, log_weights=p.log_weights + gain)
