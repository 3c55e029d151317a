"""Epsilon scaling: predicted noise divided by a number slightly above 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.models.wrapper import Wrapper
from itscale.types import State, Time, expand_over_event


@dataclass(frozen=True, eq=False)
class EpsilonScaled(Wrapper):
    """A heuristic against the growth of predicted noise along sampled trajectories.

    Replaces the noise E by ``E / scale``; the denoised sample follows from ``x = alpha D + sigma E``. It
    helps where it offsets a first-order solver's shrinkage, and with an exact model it is a loss against a
    second-order one. It changes the law of the samples even for an exact model, so methods that weight their
    samples refuse it. Where alpha = 0 the noise is the state, and nothing is scaled.

    Args:
        model: the model.
        scale: a number, or a function of time (0 noise, 1 data); 1 changes nothing, bit for bit. Published:
            1.0006 for EDM on CIFAR-10 with 35 evaluations, 1.0048 for Euler with 13.

    Reference:
        Ning et al. (2024), "Elucidating the Exposure Bias in Diffusion Models", arXiv:2308.15321.
        A departure: the published schedule is linear in the step, this one is a function of time.
    """

    scale: float | Callable[[float], float]
    changes_law: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not callable(self.scale) and not 0 < self.scale < math.inf:
            raise ConfigError(f"scale must be positive and finite, got {self.scale!r}; 1 changes nothing")

    def predict(self, x: State, t: Time, condition: Tensor | None) -> State:
        raw = self.model.predict(x, t, condition)
        t = torch.as_tensor(t, dtype=torch.float64)
        scale = self._scales(t)
        c = interpolants.coefficients(self.interpolant, t)
        scale = torch.where(c.alpha > 0, scale, torch.ones_like(scale))
        if bool((scale == 1).all()):
            return raw
        # (D, E) at alpha = 0 are not asked for: rows there keep their raw output
        at_noise = c.alpha == 0
        safe = interpolants.coefficients(
            self.interpolant, torch.where(at_noise, self.interpolant.t_max / 2, t)
        )
        noise = interpolants.noise(self.predicts, raw, x, safe)
        factor = expand_over_event(1 / scale, x)
        alpha, sigma = expand_over_event(safe.alpha, x), expand_over_event(safe.sigma, x)
        scaled = noise * factor
        changed = interpolants.raw_from(self.predicts, (x - sigma * scaled) / alpha, scaled, safe)
        return torch.where(expand_over_event(at_noise, x).bool(), raw, changed)

    def _scales(self, t: Time) -> Time:
        if not callable(self.scale):
            return torch.full_like(t, float(self.scale))
        return torch.tensor(
            [float(self.scale(v)) for v in t.flatten().tolist()], dtype=torch.float64
        ).reshape(t.shape)
