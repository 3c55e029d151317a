"""Decoupled diffusion SMC: moves through a draw of the data given the measurement, weighted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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
    check_positive,
    plan_particles,
)
from itscale.methods.restored import levels_of, ode_legs
from itscale.particles import WhenESSBelow, get_scheme
from itscale.process import ComposedProcess, ContinuousProcess
from itscale.solvers.decoupled import DecoupledStep, Reconstruct


@dataclass(frozen=True, kw_only=True)
class DDSMC:
    """SMC whose moves reconstruct the data, draw them given the measurement, and noise them again.

    Its base chain is its own, whatever the run's solver: data given a state are ``N(X, r^2 I)`` around the
    reconstruction X, with ``r^2 = s^2 c^2 / (s^2 + c^2)``. For data N(m, c^2 I) that is exact in any number
    of steps, with equal weights if eta is 0. Else the chain has a law of its own near the model's,
    and what is sampled as N grows is that law given the measurement, with an unbiased evidence. With eta 0
    chain and model agree in small steps; with more they never quite do, but a particle may go further in a
    move (published: .5 in 200 steps).

    Cost: N (O (T - 1) + 1) NFE for O ODE steps, never backwards, and N reward calls. Needs Gaussian noise and
    tilt 1.

    Attributes:
        particles: N; None takes what the budget allows.
        eta: share of the noise that a move makes anew, beside what an ancestral move does.
        prior_std: c, in units of states (images: [-1, 1]).
        ode_steps: O, steps of the ODE that reconstruct; with 1 it is the denoised sample.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.

    Reference:
        Kelvinius, Zhao and Lindsten (2025), "Solving Linear-Gaussian Bayesian Inverse Problems with Decoupled
        Diffusion Sequential Monte Carlo", arXiv:2502.06379.
    """

    particles: int | None = None
    eta: float = 0.0
    prior_std: float = 1.0
    ode_steps: int = 1
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("ode_steps", self.ode_steps)
        check_fraction("eta", self.eta)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)
        check_positive("prior_std", self.prior_std)

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, jumps=True, likelihood="conjugate")

    @property
    def claim(self) -> Claim:
        return Claim(None) if get_scheme(self.scheme).biased else Claim("tilted", "unbiased")

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for a composition, which has no one denoised sample."""
        if isinstance(process, ComposedProcess):
            raise ConfigError("DDSMC measures the denoised sample of one model; use 'smc' for a composition")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        looks = self.ode_steps * (cost.steps - 1) + 1

        def cost_of(n: int) -> Plan:
            return Plan(n, n * looks, n)

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> State:
        if engine.tilt != 1:
            raise ConfigError(f"DDSMC samples the posterior, tilt 1; got tilt={engine.tilt}: use 'tds'")
        return State(self._reconstructed(engine, engine.start(plan.particles)))

    def step(self, engine: Engine, state: State) -> State:
        p = engine.resample(state.particles, WhenESSBelow(self.ess_threshold), self.scheme)
        p = engine.weight(engine.propose(p, kernel=DecoupledStep(**self._facts(engine), eta=self.eta)))
        if int(p.level[0, 0]) < engine.steps:
            return State(self._reconstructed(engine, p))
        p = engine.score(p)
        return State(replace(p, log_weights=p.log_weights + p.value), is_done=True)

    def _reconstructed(self, engine: Engine, p: Particles) -> Particles:
        kernel = Reconstruct(**self._facts(engine), legs=ode_legs(engine, self.ode_steps))
        return engine.weight(engine.mutate(engine.look(p), kernel))

    def _facts(self, engine: Engine) -> dict[str, Any]:
        facts = levels_of(engine)
        c2 = self.prior_std**2
        pairs = zip(facts["alpha"], facts["sigma"], strict=True)
        return {**facts, "squares": tuple(c2 * s**2 / (s**2 + c2 * a**2) for a, s in pairs)}
