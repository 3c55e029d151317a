"""Samplers that bring a measurement into every move, without weights: projections and alternations.

None follows a known law. Each particle is a chain by itself; rewards are scored at the end only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, check_positive, plan_particles
from itscale.process import ComposedProcess, ContinuousProcess
from itscale.solvers import Kernel
from itscale.solvers.alternations import DAPSStep
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


def ode_legs(engine: Engine, steps: int) -> tuple[Leg | None, ...]:
    """The ODE in a few steps from every level to the data; None where the denoised sample will do."""
    assert engine.process is not None
    legs: list[Leg | None] = []
    for t in engine.times[:-2].tolist():
        inside = [t + (1 - t) * k / steps for k in range(steps)]
        legs.append(Leg.build(engine.process, [*inside, 1.0], "ddim") if steps > 1 else None)
    return (*legs, None)


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
        check_share("eta", self.eta)

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
        check_share("eta", self.eta)
        check_share("eta_b", self.eta_b)

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
        check_share("zeta", self.zeta)
        check_positive("weight", self.weight)

    @property
    def measures(self) -> str:
        return "smooth"

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
        check_positive("prior_std", self.prior_std)

    @property
    def measures(self) -> str:
        return "smooth"

    def looks(self, steps: int) -> int:
        return self.ode_steps * (steps - 1) + 1

    def kernel(self, engine: Engine) -> DAPSStep:
        assert engine.observed is not None
        is_conjugate = engine.observed.is_conjugate
        return DAPSStep(
            **levels_of(engine),
            legs=ode_legs(engine, self.ode_steps),
            langevin=0 if is_conjugate else self.langevin,
            widest=self.prior_std**2,
        )


def check_share(name: str, value: float) -> None:
    """Raise unless ``value`` is a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name} must be a number in [0, 1], got {value!r}")
