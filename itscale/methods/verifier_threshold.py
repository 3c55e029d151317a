"""Verifier thresholds: draw children at every level until one scores as well as a calibrated bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan
from itscale.methods.drawing import Chains
from itscale.methods.profile import PROBABILITIES, Profile
from itscale.methods.rbf import RBF


@dataclass(frozen=True, kw_only=True)
class VerifierThreshold:
    """RBF whose chains move on with the first child that passes a bar set for its level.

    The bar is a quantile of the rewards that unguided trajectories have there, from a profile
    (``itscale.calibrate``). A level where no child passes costs its quota and goes on with the best child; a
    bar that is too easy leaves everything for the last level. Rewards of different conditions are pooled, so
    the bar suits rewards whose level does not depend on the condition.

    Cost: all of ``budget.nfe`` (up to less than a round) as ``RBF``, and a pilot if no profile is given,
    which is reported apart. It is a search: no target.

    Attributes:
        particles, initial, min_draws, draws: as in ``RBF``.
        quantile: share of unguided trajectories that stay below the bar, from 0.05 to 0.95.
        profile: a profile or its file; None makes one before the run.

    Reference:
        arXiv:2512.08985 (2025). Bars from quantiles are ours.
    """

    particles: int | None = None
    initial: int = 8
    quantile: float = 0.8
    min_draws: int = 1
    draws: int = 4
    profile: Profile | str | None = None
    has_lineage: ClassVar[bool] = False

    def __post_init__(self) -> None:
        least, most = PROBABILITIES[0], PROBABILITIES[-1]
        if not least <= self.quantile <= most:
            raise ConfigError(
                f"quantile must be in [{least}, {most}], which a profile holds, got {self.quantile!r}"
            )
        if isinstance(self.profile, str):
            object.__setattr__(self, "profile", Profile.load(self.profile))
        if isinstance(self.profile, Profile):
            self.profile.thresholds(self.quantile)
        self._rbf(None)

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, profile=self.profile is None)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def _rbf(self, accept: tuple[float, ...] | None) -> RBF:
        return RBF(
            particles=self.particles,
            initial=self.initial,
            min_draws=self.min_draws,
            draws=self.draws,
            accept=accept,
        )

    def core(self, engine: Engine) -> RBF:
        """Return the method that does the work, with the bars of the engine's grid."""
        assert isinstance(self.profile, Profile), "a pilot comes first"
        return self._rbf(self.profile.on(engine.times[:-1]).thresholds(self.quantile)[1:])

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        return self._rbf(None).plan(cost, budget)

    def init(self, engine: Engine, plan: Plan) -> Chains:
        return self.core(engine).init(engine, plan)

    def step(self, engine: Engine, state: Chains) -> Chains:
        return self.core(engine).step(engine, state)
