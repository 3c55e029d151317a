"""Gradient ascent in the space of noises: what ReNO and DNO have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from itscale.ascent import Nesterov, Objective, Penalty
from itscale.budget import Budget
from itscale.engine import Engine, NoiseSpace, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, plan_particles
from itscale.process import ContinuousProcess


@dataclass(frozen=True, kw_only=True)
class ZeroOrder:
    """A gradient from scores alone: ``sum_c (r(z + spread xi_c) - r(z)) xi_c / (m spread)``.

    Its mean is the gradient of the reward smoothed by a normal of width ``spread``; its variance grows with
    the number of noises over that of directions.

    Attributes:
        directions: m, samples made and scored for each gradient.
        spread: how far apart.

    Reference:
        Nesterov and Spokoiny (2017), "Random Gradient-Free Minimization of Convex Functions", section 2.
    """

    directions: int = 8
    spread: float = 0.05

    def __post_init__(self) -> None:
        check_count("directions", self.directions)
        if not 0 < self.spread < math.inf:
            raise ConfigError(f"spread must be positive and finite, got {self.spread!r}")


@dataclass(frozen=True)
class AscentState(State):
    """Noises on their way up; ``particles`` are the best samples that each chain has made.

    Attributes:
        noises: each chain's noise, with its gradient and velocity.
        left: how many more noises are tried.
        turn: how many were tried before.
    """

    noises: Particles | None = None
    left: int = 0
    turn: int = 0


@dataclass(frozen=True, kw_only=True)
class NoiseAscent(ABC):
    """N chains that climb ``tilt r(sample(z)) + weight log_density(z)`` by their noises z.

    A chain's answer is the sample with the highest reward of all that it has made.

    Attributes:
        particles: N, the number of chains.
        iterations: noises that each chain tries, the first included; None spends the budget, or is 50.
        rate, momentum, clip: of the ascent; see ``ascent.Nesterov``.
        weight: of the noise's log-density.
        gradient: ``"exact"``, backwards through the whole sampler; ``"zero-order"`` or a ``ZeroOrder`` for
            rewards without one.
        recompute: on the way back evaluate the steps again, in place of keeping all their activations.
    """

    particles: int | None = None
    iterations: int | None = None
    rate: float = 5.0
    momentum: float = 0.9
    clip: float | None = 0.1
    weight: float = 0.01
    gradient: Literal["exact", "zero-order"] | ZeroOrder = "exact"
    recompute: bool = True
    has_lineage: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("iterations", self.iterations)
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"weight must be finite and >= 0, got {self.weight!r}")
        if not isinstance(self.gradient, ZeroOrder) and self.gradient not in ("exact", "zero-order"):
            raise ConfigError(
                f"gradient must be 'exact', 'zero-order' or ZeroOrder(...), got {self.gradient!r}"
            )
        _ = self.optimiser

    @property
    def optimiser(self) -> Nesterov:
        return Nesterov(self.rate, self.momentum, self.clip)

    @property
    @abstractmethod
    def penalty(self) -> Penalty: ...

    @property
    def zero_order(self) -> ZeroOrder | None:
        """How gradients are estimated, or None where they are exact."""
        if self.gradient == "exact":
            return None
        return self.gradient if isinstance(self.gradient, ZeroOrder) else ZeroOrder()

    @property
    def needs(self) -> Needs:
        return Needs(normal=True, gradient=self.gradient == "exact")

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for noise that is not normal."""
        if process.prior is not None:
            raise ConfigError(f"{type(self).__name__} keeps noises normal, and {process.prior!r} is not")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        n, each = self.particles or 1, cost.trajectory()
        again = each - 1 - cost.extra_looks[-1] if self.recompute else 0

        def cost_of(iterations: int) -> Plan:
            moves = iterations - 1
            if self.zero_order is not None:
                tries = n * (iterations + moves * self.zero_order.directions)
                return Plan(n, tries * each, tries)
            return Plan(n, n * (iterations * each + moves * again), n * iterations, n * moves * each)

        return plan_particles(
            self.iterations,
            50,
            cost_of,
            budget,
            cost.rows_per_look,
            shrink="particles or steps",
            unit="iterations",
        )

    def init(self, engine: Engine, plan: Plan) -> AscentState:
        n, tries = plan.particles, plan.reward_calls // plan.particles
        if self.zero_order is not None:
            tries = (tries + self.zero_order.directions) // (1 + self.zero_order.directions)
        noises = NoiseSpace(engine).draw(n)
        return self._tried(engine, AscentState(noises, noises=noises, left=tries - 1))

    def step(self, engine: Engine, state: AscentState) -> AscentState:
        """Move every chain's noise once, and see what it makes."""
        assert state.noises is not None
        objective = Objective(engine.tilt, self.penalty, self.weight)
        noises = NoiseSpace(engine).ascend(state.noises, self.optimiser, objective, state.turn)
        return self._tried(engine, replace(state, noises=noises, left=state.left - 1, turn=state.turn + 1))

    def _tried(self, engine: Engine, state: AscentState) -> AscentState:
        """Make a sample of every noise, and a gradient if there is a move to come."""
        space, z = NoiseSpace(engine), state.noises
        assert z is not None
        if not state.left:
            best = self._best(engine, state, space.run(z))
            return replace(state, particles=best, noises=None, is_done=True)
        if self.zero_order is None:
            z, made = space.run_and_return(z, self.recompute)
            return replace(state, particles=self._best(engine, state, made), noises=z)
        made, m = space.run(z), self.zero_order.directions
        near = space.scatter(z, m, self.zero_order.spread)
        tried = space.run(near)
        gain = tried.scores.reshape(z.groups, z.n, m) - made.scores[..., None]
        factors = gain.where(gain.isfinite(), 0.0) / (m * self.zero_order.spread**2)
        best = self._best(engine, state, made, tried)
        return replace(state, particles=best, noises=replace(space.slope(z, near, factors), move=near.move))

    def _best(self, engine: Engine, state: AscentState, *made: Particles) -> Particles:
        """Each chain's best sample so far; the newcomers of a chain lie beside each other."""
        candidates = [*([] if state.turn == 0 else [state.particles]), *made]
        n = candidates[0].n
        own, offset, scores, columns = torch.arange(n)[:, None], 0, [], []
        for p in candidates:
            m = p.n // n
            scores.append(p.scores.reshape(p.groups, n, m))
            columns.append(offset + m * own + torch.arange(m))
            offset += p.n
        found = torch.cat(scores, dim=-1).max(dim=-1, keepdim=True).indices
        index = torch.cat(columns, dim=-1).expand(candidates[0].groups, -1, -1).gather(-1, found)[..., 0]
        return engine.gather(candidates, index)
