"""Twisted SMC with everything that may be tuned: exponents, guided moves, numbers of particles over time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides import DenoisedGradient, Guide, NetworkGradient, Population, Regression, Slope
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, check_fraction, plan_particles
from itscale.methods.rollover import Saving
from itscale.methods.schedules import FEWEST, Schedule, get_schedule, sizes_of
from itscale.methods.tempering import Adaptive, Exponents, get_tempering
from itscale.particles import WhenESSBelow, get_scheme
from itscale.potentials import Tempered

Guidance: TypeAlias = Literal["none", "network", "denoised", "population", "regression"]
GUIDANCE = ("none", "network", "denoised", "population", "regression")


@dataclass(frozen=True)
class TwistedState(State):
    """A population and the exponent that its values carry.

    Attributes:
        exponent: (g,), at the present level.
        slope: what ``guide="regression"`` has learned.
    """

    exponent: Float64[Tensor, " g"] = field(default_factory=lambda: torch.zeros(0))
    slope: Slope | None = None


SomeState = TypeVar("SomeState", bound=TwistedState)


@dataclass(frozen=True, kw_only=True)
class TwistedSMC:
    """SMC on the laws ``p_k(x) exp(a_k tilt r(D(x)))``, with moves that may be guided towards them.

    Cost: N T NFE and as many reward calls; with ``guide="network"`` every look but the last also goes
    backwards, which takes about twice the time of the look again. Target: the tilted law as N grows, for any
    exponents, any guide and any schedule; the evidence is unbiased unless exponents adapt to the particles.

    Attributes:
        particles: N; with a schedule, their mean over the levels.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.
        tempering: exponents ``a_k``, by name, as a list, or an object of ``methods.tempering``.
        guide: where moves are pushed: ``"network"`` along the reward's gradient through the network,
            ``"denoised"`` along its gradient at the denoised sample (no backward pass through the network),
            ``"population"`` towards what scores well in the population and ``"regression"`` along a slope
            that all populations so far have taught (no gradient at all), ``"none"``.
        cap: largest norm of a push in standard deviations of the move; None does not limit it.
        spread: (steps,) posterior variance of the data per coordinate at every level, for ``"denoised"``,
            ``"population"`` and ``"regression"``.
        schedule: numbers of particles over the levels: ``"flat"``, ``"funnel"``, ``"late"``, (steps,)
            relative numbers, or ``schedules.Line``.

    Reference:
        Wu et al. (2023), arXiv:2306.17775, Algorithm 1 (guided proposals in twisted SMC); Kim et al. (2025),
        arXiv:2501.05803, Algorithm 1 (tempering).
    """

    particles: int | None = None
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    tempering: str | tuple[float, ...] | Exponents | Adaptive = "none"
    guide: Guidance = "none"
    cap: float | None = None
    spread: tuple[float, ...] | None = None
    schedule: Schedule = None

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)
        get_tempering(self.tempering)
        if self.guide not in GUIDANCE:
            raise ConfigError(f"guide must be one of {', '.join(GUIDANCE)}, got {self.guide!r}")
        if self.cap is not None and not self.cap > 0:
            raise ConfigError(f"cap must be > 0 standard deviations of a move, or None, got {self.cap!r}")
        if self.guide not in ("none", "network") and self.spread is None:
            raise ConfigError(f"guide={self.guide!r} needs spread=, which itscale.calibrate measures")
        if isinstance(get_schedule(self.schedule), Saving):
            raise ConfigError("schedule='rollover' is for SMC alone, where every particle costs the same")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, gradient=self.guide in ("network", "denoised"), normal=self.guide != "none")

    @property
    def claim(self) -> Claim:
        """The tilted law, unless resampling is biased."""
        if get_scheme(self.scheme).biased:
            return Claim(None)
        adapts = isinstance(get_tempering(self.tempering), Adaptive)
        return Claim("tilted", "consistent" if adapts else "unbiased")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        steps = cost.steps
        if self.spread is not None and len(self.spread) != steps:
            raise ConfigError(f"spread has {len(self.spread)} entries for {steps} steps; give one each")
        tempering = get_tempering(self.tempering)
        if not isinstance(tempering, Adaptive):
            tempering(steps)

        def cost_of(n: int) -> Plan:
            sizes = self.sizes(n, steps)
            moved = [*sizes[1:], sizes[-1]]
            inside = sum(m * extra for m, extra in zip(moved, cost.extra_looks, strict=True))
            looks = sum(sizes)
            pushed = sum(size for size, noisy in zip(sizes, cost.noisy, strict=True) if noisy)
            gradients = pushed if self.guide == "network" else 0
            rows = sum(size * cost.rows(level) for level, size in enumerate(sizes))
            rows += inside * cost.rows_per_look
            return cost.plan(n, looks + inside, looks, sum(sizes[:-1]), gradients, rows)

        minimum = 1 if get_schedule(self.schedule) is None else FEWEST
        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look, minimum)

    def sizes(self, n: int, steps: int) -> tuple[int, ...]:
        """Numbers of particles at the looks of all levels; they sum to n times the steps."""
        schedule = get_schedule(self.schedule)
        assert not isinstance(schedule, Saving)
        return sizes_of(schedule, n, steps)

    def init(self, engine: Engine, plan: Plan) -> TwistedState:
        sizes = self.sizes(plan.particles, engine.steps)
        nothing = torch.zeros(engine.groups, dtype=torch.float64)
        start = TwistedState(engine.start(sizes[0]), exponent=nothing, sizes=sizes)
        return self._seen(engine, start)

    def step(self, engine: Engine, state: TwistedState) -> TwistedState:
        p, context = state.particles, self._context(state)
        level = int(p.level[0, 0])
        is_noisy = engine.is_noisy(level)
        if is_noisy and self.guide == "regression":
            state = replace(state, slope=_learned(engine, state))
        size = state.size_ahead(level)
        if is_noisy or size != p.n:  # copies made after the last noisy move would never part
            p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme, size)
        p = engine.propose(p, guide=self._guide(engine, state, level) if is_noisy else None, context=context)
        if level + 1 == engine.steps:
            p = engine.weight(engine.score(p), Tempered(torch.ones((), dtype=torch.float64)))
            return replace(state, particles=p, is_done=True)
        return self._seen(engine, replace(state, particles=p))

    def _context(self, state: TwistedState) -> Particles:
        """What a guide may learn from: the population before it is resampled."""
        return state.particles

    def _ahead(self, state: TwistedState, engine: Engine, level: int) -> Float64[Tensor, "*g"]:
        """The exponent at the end of the move from this level."""
        tempering = get_tempering(self.tempering)
        if isinstance(tempering, Adaptive):
            return state.exponent  # the one ahead is not known yet, and any will do
        return tempering(engine.steps)[level + 1]

    def _seen(self, engine: Engine, state: SomeState) -> SomeState:
        """Look, score and weight where the particles are."""
        p = state.particles
        pushes = engine.is_noisy(int(p.level[0, 0]))  # else no gradient is needed here
        p = engine.look(p, gradient=pushes and self.guide == "network")
        p = engine.score(p, gradient=pushes and self.guide == "denoised")
        exponent = self._exponent(engine, state, p)
        return replace(state, particles=engine.weight(p, Tempered(exponent)), exponent=exponent)

    def _exponent(self, engine: Engine, state: TwistedState, p: Particles) -> Float64[Tensor, " g"]:
        tempering, level = get_tempering(self.tempering), int(p.level[0, 0])
        if not isinstance(tempering, Adaptive):
            return tempering(engine.steps)[level].expand(p.groups)
        if level == engine.steps - 1:
            return torch.ones(p.groups, dtype=torch.float64)
        applied = p.carry.get("potential_memory", torch.zeros_like(p.value))
        highest = float(tempering.ceiling(engine.steps)[level])
        return tempering.next(p.log_weights + p.log_ratio, p.value, applied, state.exponent, highest)

    def _guide(self, engine: Engine, state: TwistedState, level: int) -> Guide | None:
        """The push of the move from this level: along the value that will count ahead."""
        if self.guide == "none":
            return None
        exponent = self._ahead(state, engine, level)
        if self.guide == "network":
            return NetworkGradient(exponent * engine.tilt, self.cap)
        spread = torch.tensor(self.spread, dtype=torch.float64)
        if self.guide == "denoised":
            return DenoisedGradient(exponent * engine.tilt, spread, self.cap)
        if self.guide == "population":
            return Population(exponent, spread, self.cap)
        assert state.slope is not None, "it is learned before the first move"
        return Regression(state.slope, exponent, spread, self.cap)


def _learned(engine: Engine, state: TwistedState) -> Slope:
    """The slope after the population that is about to move."""
    p = state.particles
    denoised = engine.denoised(p).flatten(2)
    slope = state.slope or Slope.unknown(p.groups, denoised.shape[2])
    return slope.learn(denoised, p.value)
