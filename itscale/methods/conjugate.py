"""Filtering with Gaussian potentials of the noisy state: exact in the limit, and no gradient of the
network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides import Bridge
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, check_fraction, plan_particles
from itscale.methods.restored import levels_of
from itscale.operators import Observed
from itscale.particles import WhenESSBelow, get_scheme
from itscale.process import ComposedProcess, ContinuousProcess, Evaluation
from itscale.solvers.conditioned import ConjugateStep

FREE = 1e-6
"""How far, relatively, a level may be from a noise that is to be met."""


@dataclass(frozen=True)
class Increment:
    """The log-weight of the move ahead: what the potential there integrates to, over the potential here."""

    kernel: ConjugateStep
    ended: Tensor

    def __call__(self, at: Evaluation, level: int, bridge: Bridge) -> Tensor:
        return self.kernel.predictive(at, level) - self.kernel.potential(at.x, level, self.ended)


@dataclass(frozen=True)
class Held:
    """The log-potential of the state, in sum or difference with the weight: ``sign log G(x)``."""

    kernel: ConjugateStep
    sign: float

    def __call__(self, at: Evaluation, level: int, bridge: Bridge) -> Tensor:
        return self.sign * self.kernel.potential(at.x, level)


@dataclass(frozen=True, kw_only=True)
class ConjugateSMC:
    """SMC with moves drawn given the measurement, coordinate by coordinate of the operator's decomposition.

    With ``"independent"`` the potential at noise s is ``N(ybar; z, tau^2 + s^2)``, as if the noise of
    measurement
    and state were independent, and the likelihood comes in at the end. With ``"conditioning"`` measurement
    noise
    tau *is* the forward noise up to the level tau: ``N(ybar; z, s^2 - (1 - kappa) tau^2)`` down to there,
    where the last factor stays and no likelihood follows; every tau must be a level (``conditioning_grid``).

    Cost: N T NFE, never backwards, and N reward calls. Target: the posterior as N grows, with an unbiased
    evidence; with ``"conditioning"`` up to kappa. Needs Gaussian noise, tilt 1 and a solver with a Gaussian
    transition.

    Attributes:
        particles: N; None takes what the budget allows.
        potential: ``"independent"`` or ``"conditioning"``.
        kappa: share of the noise's variance that the last potential keeps.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.

    Reference:
        Cardoso et al. (2023), "Monte Carlo Guided Diffusion for Bayesian Linear Inverse Problems",
        arXiv:2308.07983 (conditioning). A departure: its released code multiplies the likelihood at the end
        and divides by the narrow potential at tau, whose weights have no variance.
    """

    particles: int | None = None
    potential: Literal["independent", "conditioning"] = "independent"
    kappa: float = 0.01
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)
        if self.potential not in ("independent", "conditioning"):
            raise ConfigError(f"potential must be independent or conditioning, got {self.potential!r}")
        if not 0 < self.kappa < 1:
            raise ConfigError(f"kappa must be in (0, 1), got {self.kappa!r}")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, memoryless=True, density=True, likelihood="conjugate")

    @property
    def claim(self) -> Claim:
        if get_scheme(self.scheme).biased:
            return Claim(None)
        return Claim("tilted", "unbiased" if self.potential == "independent" else "consistent")

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for a composition, whose transition is not the solver's alone."""
        if isinstance(process, ComposedProcess):
            raise ConfigError("ConjugateSMC conditions the moves of one model; use 'smc' for a composition")

    def check_observed(self, observed: Observed, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError unless every noise is a level, where that is needed."""
        if self.potential == "independent":
            return
        kappa = process.interpolant.kappa(times[:-1])
        for tau in observed.coordinates.tau.unique().tolist():
            if float((kappa / tau).log().abs().min()) > FREE:
                raise ConfigError(
                    f"potential='conditioning' needs the noise {tau:.6g} of a measured coordinate among "
                    f"the levels; "
                    "use grid=methods.conditioning_grid(likelihood, model), or potential='independent'"
                )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            return Plan(n, n * cost.trajectory(), n)

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> State:
        if engine.tilt != 1:
            raise ConfigError(
                f"ConjugateSMC samples the posterior, tilt 1; got tilt={engine.tilt}: use 'tds'"
            )
        kernel, _ = self._kernel(engine)
        p = engine.look(engine.start(plan.particles))
        return State(self._ahead(engine, self._plus(p, engine.assess(p, Held(kernel, 1.0)))))

    def step(self, engine: Engine, state: State) -> State:
        p = state.particles
        level = int(p.level[0, 0])
        if engine.is_noisy(level):
            p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme)
        kernel, _ = self._kernel(engine)
        p = engine.propose(p, kernel=kernel if engine.is_noisy(level) else None)
        if level + 1 < engine.steps:
            return State(self._ahead(engine, engine.look(p)))
        p = engine.score(p)
        if self.potential == "independent":
            p = self._plus(p, p.value)
        else:
            p = self._plus(p, self._constant(engine).expand_as(p.value))
        return State(p, is_done=True)

    def _ahead(self, engine: Engine, p: Particles) -> Particles:
        """Weight the particles for the move ahead; the last move only takes leave of the potential."""
        kernel, ended = self._kernel(engine)
        level = int(p.level[0, 0])
        if engine.is_noisy(level):
            return self._plus(p, engine.assess(p, Increment(kernel, ended[level])))
        if self.potential == "independent":
            return self._plus(p, engine.assess(p, Held(kernel, -1.0)))
        return p

    def _plus(self, p: Particles, gain: Float64[Tensor, "g n"]) -> Particles:
        return replace(p, log_weights=p.log_weights + gain)

    def _kernel(self, engine: Engine) -> tuple[ConjugateStep, Tensor]:
        """The move, and per level which coordinates have their last potential there, (levels, m) bool."""
        assert engine.observed is not None
        facts = levels_of(engine)
        tau = engine.observed.coordinates.tau
        alpha = torch.tensor(facts["alpha"][:-1], dtype=torch.float64)[:, None]
        sigma = torch.tensor(facts["sigma"][:-1], dtype=torch.float64)[:, None]
        if self.potential == "independent":
            width = (alpha * tau) ** 2 + sigma**2
            ended = torch.zeros_like(width, dtype=torch.bool)
        else:
            is_above = sigma >= alpha * tau * (1 - 2 * FREE)
            width = sigma**2 - (1 - self.kappa) * (alpha * tau) ** 2
            width = torch.where(is_above, width, torch.inf)
            below = torch.cat([~is_above[1:], torch.ones_like(is_above[:1])])
            ended = is_above & below
        width = torch.cat([width, torch.full_like(width[:1], torch.inf)])
        return ConjugateStep(**facts, base=engine.kernel, widths=width), ended

    def _constant(self, engine: Engine) -> Tensor:
        """``log p(y)`` over the density of the values ``alpha ybar`` at the levels where they were met."""
        assert engine.observed is not None
        facts = levels_of(engine)
        _, ended = self._kernel(engine)
        c = engine.observed.coordinates
        level = ended.double().argmax(0)
        alpha = torch.tensor(facts["alpha"], dtype=torch.float64)[level]
        spread = engine.observed.std / c.tau  # a_i in units of states
        return (alpha.log() - spread.log()).sum()


def conditioning_grid(likelihood: object, model: object, inner: object = "uniform") -> object:
    """A time grid on which every noise of a measured coordinate is a level, for ``ConjugateSMC``.

    Args:
        likelihood: with Gaussian noise and a spectral operator.
        model: whose states are measured.
        inner: the grid whose nearest points give way.

    Raises:
        ConfigError: for another reward, or more different noises than a grid can take: use
            ``"independent"``.
    """
    from itscale.grids.through_grid import Through

    observed = Observed.of(likelihood, model)
    if observed is None or not observed.is_spectral:
        raise ConfigError("conditioning_grid needs a likelihood with a spectral operator")
    return Through(tuple(observed.coordinates.tau.unique().tolist()), inner)
