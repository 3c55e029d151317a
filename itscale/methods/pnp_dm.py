"""Split Gibbs sampling between a measurement and a model: PnP-DM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Cost, Plan, State, check_count, plan_particles
from itscale.methods.restored import Restored
from itscale.solvers import Kernel
from itscale.solvers.alternations import LikelihoodStep


@dataclass(frozen=True)
class SplitState(State):
    """Chains of a split Gibbs sampler, at the data; ``turn`` iterations are behind them."""

    turn: int = 0


@dataclass(frozen=True, kw_only=True)
class PnPDM(Restored):
    """Split Gibbs sampling: in turn a draw given the measurement and one given the model, coupled by rho.

    For each rho the pair has a stationary law; the data's part of it nears the posterior as rho falls, while
    chains mix ever slower. Couplings fall from ``rho_start`` to ``rho_end``, each to the level of the grid
    nearest to it, from which the sampler itself goes to the data.

    Cost: N (T + the levels below each coupling) NFE and N reward calls.

    Attributes:
        iterations: couplings.
        rho_start, rho_end: noise-to-signal ratios.
        langevin: steps of a draw that is not Gaussian.

    Reference:
        Wu et al. (2024), arXiv:2405.18782.
    """

    iterations: int = 10
    rho_start: float = 2.0
    rho_end: float = 0.1
    langevin: int = 40
    has_lineage: ClassVar[bool] = False  # all chains go their own way

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("iterations", self.iterations)
        check_count("langevin", self.langevin)
        if not 0 < self.rho_end <= self.rho_start:
            raise ConfigError(
                f"rho_end must be > 0 and at most rho_start, got {self.rho_end!r} and {self.rho_start!r}"
            )

    @property
    def measures(self) -> str:
        return "smooth"

    def kernel(self, engine: Engine) -> Kernel:
        """The sampler's own; draws given the measurement come between."""
        return engine.kernel

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        below = sum(
            sum(1 + cost.extra_looks[j] for j in range(k, cost.steps)) for k in self._levels(cost.kappa)
        )

        def cost_of(n: int) -> Plan:
            return Plan(n, n * (cost.trajectory() + below), n)

        return plan_particles(
            self.particles, 16, cost_of, budget, cost.rows_per_look, shrink="iterations or steps"
        )

    def init(self, engine: Engine, plan: Plan) -> SplitState:
        return SplitState(self._descended(engine, engine.start(plan.particles)))

    def step(self, engine: Engine, state: Any) -> SplitState:
        p = state.particles
        path = engine.process.interpolant if engine.process is not None else None
        assert path is not None
        assert engine.observed is not None
        kappa = tuple(path.kappa(engine.times[:-1]).tolist())
        level = self._levels(kappa)[state.turn]
        langevin = 0 if engine.observed.is_conjugate else self.langevin
        draw = LikelihoodStep(engine.observed, kappa[level], float(path.alpha(engine.times[level])), langevin)
        last_look = torch.full_like(p.level, engine.steps - 1)
        p = engine.mutate(replace(p, level=last_look), draw)
        p = self._descended(engine, replace(p, level=torch.full_like(p.level, level)))
        if state.turn + 1 == self.iterations:
            return SplitState(engine.score(p), is_done=True, turn=state.turn + 1)
        return SplitState(p, turn=state.turn + 1)

    def _descended(self, engine: Engine, p: Particles) -> Particles:
        while int(p.level[0, 0]) < engine.steps:
            p = engine.propose(engine.look(p), recorded=False)
        return p

    def _levels(self, kappa: tuple[float, ...]) -> list[int]:
        """The level of each coupling."""
        ratio = self.rho_end / self.rho_start
        wanted = [self.rho_start * ratio ** (j / max(self.iterations - 1, 1)) for j in range(self.iterations)]
        k = torch.tensor(kappa, dtype=torch.float64).log()
        distance = (k[:, None] - torch.tensor(wanted, dtype=torch.float64).log()).abs()
        return distance.nan_to_num(torch.inf).argmin(0).tolist()
