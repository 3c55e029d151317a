"""CTS: twisted SMC whose exponents and moves are calibrated on base trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, check_count, check_fraction
from itscale.methods.profile import Profile
from itscale.methods.twisted import TwistedSMC, TwistedState

DRIFTS = ("auto", "denoised", "population", "regression", "none")


@dataclass(frozen=True, kw_only=True)
class CTS:
    """Calibrated twisted SMC: as SMC, with early values trusted as far as a pilot shows they can be.

    A profile of base trajectories (``itscale.calibrate``) says at every level how well the reward of the
    denoised sample predicts the final one, and how vague the denoised sample still is. The first sets
    exponents on the values, the second the size of pushes that cost no network call: along the reward's
    gradient at the denoised sample if it is differentiable, else towards what scores well in the population.

    Cost: N T NFE and reward calls, no backward pass through the network; a pilot if no profile is given
    or shipped, which is reported apart. Target: the tilted law as N grows, with an unbiased evidence.

    Attributes:
        particles: N; None takes what the budget allows.
        ess_threshold: resample when ESS < this share of the particles.
        drift: the guide of ``TwistedSMC``: ``"denoised"``, ``"population"``, ``"regression"``, ``"none"``, or
            ``"auto"``: ``"denoised"`` for differentiable rewards, else ``"population"``.
        cap: largest norm of a push in standard deviations of the move: 1 costs at most half a nat.
        schedule: ``"flat"``, or ``"half"``: more particles where the reward is decided, better for the
            evidence and for deceptive rewards, worse for the mean of smooth ones.
        profile: a profile or its file; None takes the one that ships with a bundled model and reward, or
            makes one before the run. ``result.notes["profile"]`` says which.
        scheme: resampling scheme.
    """

    particles: int | None = None
    ess_threshold: float = 0.9
    drift: Literal["auto", "denoised", "population", "regression", "none"] = "auto"
    cap: float = 1.0
    schedule: Literal["flat", "half"] = "flat"
    profile: Profile | str | None = None
    scheme: str = "systematic"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        if self.drift not in DRIFTS:
            raise ConfigError(f"drift must be one of {', '.join(DRIFTS)}, got {self.drift!r}")
        if self.schedule not in ("flat", "half"):
            raise ConfigError(f"schedule must be 'flat' or 'half', got {self.schedule!r}")
        if isinstance(self.profile, str):
            object.__setattr__(self, "profile", Profile.load(self.profile))
        if not self.cap > 0:
            raise ConfigError(f"cap must be > 0 standard deviations of a move, got {self.cap!r}")

    @property
    def needs(self) -> Needs:
        return Needs(
            noise=True,
            gradient=self.drift == "denoised",
            profile=self.profile is None,
            normal=self.drift != "none",
        )

    @property
    def claim(self) -> Claim:
        return TwistedSMC(scheme=self.scheme).claim

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        # what a schedule costs does not depend on its shape, so any will do before the profile is known
        ones = (1.0,) * cost.steps
        schedule = None if self.schedule == "flat" else ones
        return TwistedSMC(particles=self.particles, schedule=schedule).plan(cost, budget)

    def init(self, engine: Engine, plan: Plan) -> TwistedState:
        assert isinstance(self.profile, Profile), "a pilot comes first"
        engine.notes["profile"] = self.profile.source or "given"
        return self.core(engine).init(engine, plan)

    def step(self, engine: Engine, state: Any) -> TwistedState:
        return self.core(engine).step(engine, state)

    def core(self, engine: Engine) -> TwistedSMC:
        """Return the method that does the work, calibrated for the engine's grid and reward."""
        assert isinstance(self.profile, Profile), "a pilot comes first"
        profile = self.profile.on(engine.times[:-1])
        drift = self.drift
        if drift == "auto":
            drift = "denoised" if engine.has_gradient else "population"
        schedule = None
        if self.schedule == "half":
            schedule = profile.schedule(engine.tilt * profile.reward_std)
        return TwistedSMC(
            particles=self.particles,
            ess_threshold=self.ess_threshold,
            scheme=self.scheme,
            tempering=profile.exponents(),
            guide=drift,
            cap=self.cap,
            spread=profile.spread,
            schedule=schedule,
        )
