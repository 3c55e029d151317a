"""Moves drawn given a noisy observation of the next state, whose noise follows a path of its own: FPS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.projections import MeasuredMove
from itscale.types import State


@dataclass(frozen=True, eq=False)
class NoisyPathStep(MeasuredMove):
    """A DDIM move given a noisy observation ``y_s``, whose noise takes the same DDIM steps as the state.

    ``y_s' = ybar + sqrt(1 - eta^2) (s'/s) (y_s - ybar) + eta s' e``, and the observation of the state at a
    level has noise tau. The state moves by ``N(D + sqrt(1 - eta^2) (s'/s) (z - D), (eta s')^2)``, whose
    variance does not vanish in small steps as that of an ancestral move does. A row remembers its
    observation, as spectral coordinates.

    Attributes:
        eta: share of fresh noise, in the path and in the state.

    Reference:
        Dou and Song (2024), "Diffusion Posterior Sampling for Linear Inverse Problem Solving: A Filtering
        Perspective" (FPS), with one particle.
    """

    eta: float = 0.85
    history: int = 1

    def shares(self, level: int) -> tuple[float, ...]:
        return (1.0, 0.0, 0.0)

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        d = at.denoised
        if z is None or self.is_last(level):
            return Move(d, memory=(torch.zeros_like(d),))
        kept, std = math.sqrt(1 - self.eta**2), self.eta * self.sigma[level + 1]
        mean = self.alpha[level + 1] * d + kept * self.sigma[level + 1] * self.left_noise(at, level, d)
        _, e = self.measured(z[:, 1])
        value, tau = self.value(e), self.tau(e)
        before, after = (math.sqrt(self.square(k)) for k in (level, level + 1))
        if history:
            left = (history[0].flatten(1)[:, : len(value)] - value) / before
        else:
            _, left = self.measured(z[:, 2])
        observation = value + after * (kept * left + self.eta * e)
        free, _ = self.measured(mean + std * z[:, 0])
        _, m = self.measured(mean)
        _, fresh = self.measured(z[:, 0])
        width = (self.alpha[level + 1] * tau) ** 2
        gain = std**2 / (std**2 + width)
        drawn = m + gain * (self.alpha[level + 1] * observation - m) + (width * gain).sqrt() * fresh
        x = self.replaced(free, drawn)
        return Move(x, memory=(_as_event(observation, x),))


def _as_event(measured: Tensor, like: State) -> State:
    """Numbers of the measured coordinates in the shape of a state, to travel with the row."""
    flat = torch.zeros_like(like).flatten(1)
    flat[:, : measured.shape[1]] = measured.to(flat)
    return flat.reshape(like.shape)
