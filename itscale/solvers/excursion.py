"""A move to the next level by way of a noisier one: up by the forward jump, down by a solver of the ODE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move, Solver
from itscale.solvers.restart import Cycle


@dataclass(frozen=True)
class Excursion:
    """From a level to the next one: noise up in one jump, then ``len(times) - 1`` steps down.

    With the exact velocity and small steps it takes the marginal of the level to that of the next. The
    evaluation at its start is not used, so rows need no look before it.

    Attributes:
        level: where it starts; at all others the kernel does nothing.
    """

    level: int
    cycle: Cycle
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False
    is_blind: bool = True

    @classmethod
    def build(
        cls, process: ContinuousProcess, times: Tensor, level: int, back: float, steps: int, inner: Solver
    ) -> Excursion:
        """Go up by ``back`` in noise level, at most to the start of the process, and down in ``steps`` steps.

        The noise level is that of the linear path, ``sigma / (alpha + sigma)``, in which the steps are even.

        Raises:
            ConfigError: unless ``inner`` solves the ODE with the same number of looks in every step.
        """
        name = type(inner).__name__
        if inner.is_stochastic or getattr(inner, "brings_noise", False):
            raise ConfigError(f"inner must be a solver of the ODE, such as 'dpm++2m', and {name} adds noise")
        path = process.interpolant
        here, below, start = float(times[level]), float(times[level + 1]), process.t_start
        lowest = noise_level(process, below)
        highest = min(noise_level(process, here) + back, noise_level(process, start))
        levels = [highest + (lowest - highest) * j / steps for j in range(steps)]
        inside = [float(path.t_of_kappa(s / (1 - s) if s < 1 else math.inf)) for s in levels]
        cycle = Cycle.along(process, here, (*inside, below), inner)
        if cycle.looks != steps * inner.evaluations:
            raise ConfigError(
                f"inner must look equally often in all steps, and {name} does not from noise level "
                f"{highest:.3g} down: use 'dpm++2m', or a lower back"
            )
        return cls(level, cycle)

    def is_noisy(self, level: int) -> bool:
        return level == self.level

    def extra_looks(self, level: int) -> int:
        return self.cycle.looks if level == self.level else 0

    def shares(self, level: int) -> tuple[float, ...]:
        return (1.0, *[0.0] * (self.cycle.normals - 1))

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert z is not None
        return Move(self.cycle(at.x, look, z.unbind(1)))


def noise_level(process: ContinuousProcess, t: float) -> float:
    """``sigma / (alpha + sigma)``: 1 is pure noise, 0 is data."""
    alpha, sigma = process.interpolant.alpha(t), process.interpolant.sigma(t)
    return float(torch.as_tensor(sigma / (alpha + sigma)))
