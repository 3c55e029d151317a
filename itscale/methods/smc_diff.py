"""Replacement with weights, for measurements without noise: SMCDiff."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides import Bridge
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
from itscale.noise import Address, Purpose
from itscale.particles import WhenESSBelow, get_scheme
from itscale.process import ComposedProcess, ContinuousProcess, Evaluation
from itscale.solvers import Surroundings
from itscale.solvers.replacement import Begin, FollowPath, noised_path


@dataclass(frozen=True, eq=False)
class OnPath:
    """The log-weight of the move ahead: how well it predicts the path."""

    kernel: FollowPath

    def placed(self, around: Surroundings) -> OnPath:
        return OnPath(self.kernel.placed(around))

    def __call__(self, at: Evaluation, level: int, bridge: Bridge) -> Tensor:
        return self.kernel.predictive(at, level)


@dataclass(frozen=True)
class PathState(State):
    """A population and the noisy path of the measurement that its group follows.

    Attributes:
        path: (g, levels + 1, m), measured coordinates of states.
    """

    path: Float64[Tensor, "g levels m"] = field(default_factory=lambda: torch.zeros(0))


@dataclass(frozen=True, kw_only=True)
class SMCDiff:
    """A filter that knows a noised path of the measurement and replaces what is measured by it.

    The measurement is taken as exact: samples reproduce it to rounding. A group draws one path of the forward
    process from the measurement to noise; particles are weighted by how well their moves predict it. As N
    grows, samples follow the sampler's own chain given the path, which is the data given ``A x = y`` where
    the chain is the time reversal of the noising: in small steps. Since that is not the law tilted by the
    likelihood of noisy measurements, no claim is made; weights are used up by a last resampling.

    Cost: N T NFE, never backwards, and N reward calls.

    Attributes:
        particles: N; None takes what the budget allows.
        ess_threshold: resample when ESS < this share of the particles.
        scheme: resampling scheme.

    Reference:
        Trippe et al. (2022), "Diffusion Probabilistic Modeling of Protein Backbones in 3D for the
        Motif-Scaffolding Problem", arXiv:2206.04119, Algorithm 1.
    """

    particles: int | None = None
    ess_threshold: float = 0.5
    scheme: str = "systematic"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_fraction("ess_threshold", self.ess_threshold)
        get_scheme(self.scheme)

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, jumps=True, memoryless=True, density=True, likelihood="spectral")

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for a composition, whose transition is not the solver's alone."""
        if isinstance(process, ComposedProcess):
            raise ConfigError("SMCDiff replaces coordinates of one model's states; use 'smc'")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            return Plan(n, n * cost.trajectory(), n)

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> PathState:
        path = self._path(engine)
        p = engine.mutate(engine.start(plan.particles), Begin(**levels_of(engine), path=path))
        return PathState(self._ahead(engine, engine.look(p), path), path=path)

    def step(self, engine: Engine, state: PathState) -> PathState:
        p, path = state.particles, state.path
        level = int(p.level[0, 0])
        if engine.is_noisy(level):
            # weights are used up before the last noisy move, after which copies never part
            share = self.ess_threshold if engine.is_noisy(level + 1) else 1.0
            p = engine.resample(p, WhenESSBelow(share), self.scheme)
        p = engine.propose(p, kernel=self._kernel(engine, path))
        if level + 1 < engine.steps:
            return PathState(self._ahead(engine, engine.look(p), path), path=path)
        return PathState(forget_weights(engine.score(p)), is_done=True, path=path)

    def _ahead(self, engine: Engine, p: Particles, path: Tensor) -> Particles:
        if not engine.is_noisy(int(p.level[0, 0])):
            return p
        gain = engine.assess(p, OnPath(self._kernel(engine, path)))
        return replace(p, log_weights=p.log_weights + gain)

    def _kernel(self, engine: Engine, path: Tensor) -> FollowPath:
        return FollowPath(**levels_of(engine), path=path, base=engine.kernel)

    def _path(self, engine: Engine) -> Tensor:
        assert engine.observed is not None
        value = engine.observed.coordinates.value
        facts = levels_of(engine)
        alpha, sigma = (torch.tensor(facts[name], dtype=torch.float64) for name in ("alpha", "sigma"))
        zero = torch.zeros_like(engine.group_ids)
        address = Address(engine.group_ids, zero, zero, zero)
        normal = engine.noise.normal(Purpose.PATH, address, (engine.steps, len(value)), torch.float64)
        return noised_path(value, alpha, sigma, normal)
