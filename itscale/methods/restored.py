"""Samplers that bring a measurement into every move, without weights: projections, alternations, a noisy
path.

None follows a known law. Each particle is a chain by itself; rewards are scored at the end only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, plan_particles
from itscale.process import ComposedProcess, ContinuousProcess
from itscale.solvers import Kernel
from itscale.solvers.alternations import DAPSStep, LikelihoodStep
from itscale.solvers.conditioned import NoisyPathStep
from itscale.solvers.leg import Leg
from itscale.solvers.projections import DDNMStep, DDRMStep, DiffPIRStep


@dataclass(frozen=True, kw_only=True)
class Restored(ABC):
    """Base of chains with a kernel of their own: a subclass is a frozen dataclass that builds it.

    Attributes:
        particles: N, independent chains; None takes what the budget allows.
    """

    particles: int | None = None

    def __post_init__(self) -> None:
        check_count("particles", self.particles)

    @abstractmethod
    def kernel(self, engine: Engine) -> Kernel:
        """Return the move, for the engine's levels and measurement."""

    @property
    def measures(self) -> str:
        return "spectral"

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, jumps=True, likelihood=self.measures)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def check(self, process: ContinuousProcess, times: torch.Tensor) -> None:
        """Raise ConfigError for a composition, which has no one denoised sample to measure."""
        if isinstance(process, ComposedProcess):
            raise ConfigError(f"{type(self).__name__} measures the denoised sample of one model; use 'smc'")

    def looks(self, steps: int) -> int:
        """Looks of one chain."""
        return steps

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        looks = self.looks(cost.steps)

        def cost_of(n: int) -> Plan:
            return Plan(n, n * looks, n)

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> State:
        return State(engine.look(engine.start(plan.particles)))

    def step(self, engine: Engine, state: Any) -> State:
        p = engine.propose(state.particles, kernel=self.kernel(engine))
        if int(p.level[0, 0]) == engine.steps:
            return State(engine.score(p), is_done=True)
        return State(engine.look(p))


def levels_of(engine: Engine) -> dict[str, Any]:
    """The measurement, and alpha and sigma at all grid points, as kernels want them."""
    assert engine.process is not None
    path = engine.process.interpolant
    times = engine.times.tolist()
    return {
        "observed": engine.observed,
        "alpha": tuple(float(path.alpha(t)) for t in times),
        "sigma": tuple(float(path.sigma(t)) for t in times),
    }


@dataclass(frozen=True, kw_only=True)
class DDNM(Restored):
    """DDNM+: the measured part of the denoised sample replaced, as far as its noise allows.

    Cost: N T NFE and N reward calls.

    Attributes:
        eta: share of fresh noise.
        noiseless: take the measurement as exact; samples then reproduce it to rounding.

    Reference:
        Wang, Yu and Zhang (2023), arXiv:2212.00490.
    """

    eta: float = 0.85
    noiseless: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("eta", self.eta)

    def kernel(self, engine: Engine) -> DDNMStep:
        return DDNMStep(**levels_of(engine), eta=self.eta, noiseless=self.noiseless)


@dataclass(frozen=True, kw_only=True)
class DDRM(Restored):
    """DDRM: measured spectral coordinates from the measurement while the level is noisier than it.

    On a Gaussian the variance of its samples falls towards 0 as steps are added.

    Cost: N T NFE and N reward calls.

    Attributes:
        eta, eta_b: shares of fresh noise and of the measurement.
        noiseless: take the measurement as exact.

    Reference:
        Kawar, Elad, Ermon and Song (2022), arXiv:2201.11793.
    """

    eta: float = 0.85
    eta_b: float = 1.0
    noiseless: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("eta", self.eta)
        _check_share("eta_b", self.eta_b)

    def kernel(self, engine: Engine) -> DDRMStep:
        return DDRMStep(**levels_of(engine), eta=self.eta, eta_b=self.eta_b, noiseless=self.noiseless)


@dataclass(frozen=True, kw_only=True)
class DiffPIR(Restored):
    """DiffPIR: the point that fits both measurement and denoised sample, then noise again.

    Cost: N T NFE and N reward calls; a solve with ``A A^T`` a step.

    Attributes:
        weight: lambda, how much the denoised sample counts.
        zeta: share of the noise's variance that is fresh.

    Reference:
        Zhu et al. (2023), arXiv:2305.08995.
    """

    weight: float = 8.0
    zeta: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("zeta", self.zeta)
        if not self.weight > 0:
            raise ConfigError(f"weight must be > 0, got {self.weight!r}")

    @property
    def measures(self) -> str:
        return "affine"

    def kernel(self, engine: Engine) -> DiffPIRStep:
        return DiffPIRStep(**levels_of(engine), weight=self.weight, zeta=self.zeta)


@dataclass(frozen=True, kw_only=True)
class DAPS(Restored):
    """DAPS: to the data by the ODE, a draw given the measurement around there, noise of the next level.

    The draw is exact for linear operators with Gaussian noise, by Langevin steps otherwise.

    Cost: N (O (T - 1) + 1) NFE for O ODE steps, and N reward calls.

    Attributes:
        ode_steps: O.
        langevin: steps of a draw that is not Gaussian.
        prior_std: limits the width of the draw where the level is noisier; in units of states.

    Reference:
        Zhang et al. (2024), arXiv:2407.01521.
    """

    ode_steps: int = 5
    langevin: int = 40
    prior_std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("ode_steps", self.ode_steps)
        check_count("langevin", self.langevin)
        if not self.prior_std > 0:
            raise ConfigError(f"prior_std must be > 0, got {self.prior_std!r}")

    @property
    def measures(self) -> str:
        return "affine"

    def looks(self, steps: int) -> int:
        return self.ode_steps * (steps - 1) + 1

    def kernel(self, engine: Engine) -> DAPSStep:
        assert engine.process is not None
        assert engine.observed is not None
        legs: list[Leg | None] = []
        for t in engine.times[:-2].tolist():
            inside = [t + (1 - t) * k / self.ode_steps for k in range(self.ode_steps)]
            legs.append(Leg.build(engine.process, [*inside, 1.0], "ddim") if self.ode_steps > 1 else None)
        is_conjugate = engine.observed.is_conjugate
        return DAPSStep(
            **levels_of(engine),
            legs=(*legs, None),
            langevin=0 if is_conjugate else self.langevin,
            widest=self.prior_std**2,
        )


@dataclass(frozen=True, kw_only=True)
class FPS(Restored):
    """Filtering by one noisy observation path, one particle a chain.

    More particles would make it worse: the noise of the path is one and the same at all levels, and weights
    would count the likelihood at each of them.

    Cost: N T NFE and N reward calls.

    Attributes:
        eta: share of fresh noise along the path.

    Reference:
        Dou and Song (2024), "Diffusion Posterior Sampling for Linear Inverse Problem Solving".
    """

    eta: float = 0.85

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("eta", self.eta)

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, jumps=True, memoryless=True, density=True, likelihood="spectral")

    def kernel(self, engine: Engine) -> NoisyPathStep:
        return NoisyPathStep(**levels_of(engine), base=engine.kernel, eta=self.eta)


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
        return "affine"

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


def _check_share(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name} must be a number in [0, 1], got {value!r}")
