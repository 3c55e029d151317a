"""VASR-Max: resampling that selects more sharply than the weights ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    forget_weights,
)
from itscale.methods.smc import SMC
from itscale.particles import WhenESSBelow, get_scheme
from itscale.potentials import Difference


@dataclass(frozen=True)
class Selected(State):
    """Particles whose weights steer the search and are not handed out."""

    def ended(self, engine: Engine) -> Particles:
        return forget_weights(super().ended(engine))


@dataclass(frozen=True, kw_only=True)
class VASRMax:
    """SMC whose offspring follow a power of the weights, without the factor that would make up for it.

    Cost: N T NFE and N T reward calls. It is a search: over-selection pulls towards high rewards and away
    from the tilted law. ``power=1`` would be ``SMC``, whose offspring are in proportion to weight already; a
    sharper tilt selects as sharply, with weights that keep a target.

    Attributes:
        particles: N; None takes what the budget allows.
        power: exponent on the weights, > 1.
        ess_threshold: resample when the ESS of the sharpened weights < this share of N.
        scheme: resampling scheme.

    Reference:
        arXiv:2604.06779 (2026), the variant of VASR that over-selects. The power, and its default, are ours.
    """

    particles: int | None = None
    power: float = 2.0
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)
        if not 1 < self.power <= 100:
            raise ConfigError(f"power must be in (1, 100], got {self.power!r}: 1 is method='smc'")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        return SMC(particles=self.particles).plan(cost, budget)

    def init(self, engine: Engine, plan: Plan) -> Selected:
        p = engine.score(engine.look(engine.start(plan.particles)))
        return Selected(engine.weight(p, Difference()))

    def step(self, engine: Engine, state: Selected) -> Selected:
        p = state.particles
        if engine.is_noisy(int(p.level[0, 0])):
            sharp = replace(p, log_weights=self.power * p.log_weights)
            p = engine.resample(sharp, WhenESSBelow(self.ess_threshold), self.scheme)
            p = replace(p, log_weights=p.log_weights / self.power)  # of groups that were not resampled
        p = engine.weight(engine.score(advance(engine, p)), Difference())
        is_done = int(p.level[0, 0]) == engine.steps
        return Selected(forget_weights(p) if is_done else p, is_done)
