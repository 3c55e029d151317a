"""Gradient ascent with Nesterov momentum, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.types import State, expand_over_event


@dataclass(frozen=True)
class Nesterov:
    """``v <- momentum v + c g``, ``x <- x + rate (c g + momentum v)``; c shortens g to at most ``clip``.

    A row whose gradient is not finite keeps going by its momentum.

    Attributes:
        rate: > 0.
        momentum: in [0, 1); 0 is plain gradient ascent.
        clip: longest gradient of a row; None is no limit.

    Reference:
        Sutskever, Martens, Dahl and Hinton (2013), "On the importance of initialization and momentum in deep
        learning", in the form of ``torch.optim.SGD(nesterov=True)``.
    """

    rate: float
    momentum: float = 0.9
    clip: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"rate must be positive and finite, got {self.rate!r}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be in [0, 1), got {self.momentum!r}")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ConfigError(f"clip must be positive and finite, or None, got {self.clip!r}")

    def __call__(self, x: State, gradient: State, velocity: State) -> tuple[State, State]:
        """Return the new point and the new velocity."""
        norm = gradient.flatten(1).norm(dim=1)
        factor = (
            torch.ones_like(norm) if self.clip is None else (self.clip / norm.clamp_min(1e-30)).clamp(max=1)
        )
        factor = torch.where(norm.isfinite(), factor, 0.0)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0) * expand_over_event(factor, gradient)
        velocity = self.momentum * velocity + gradient
        return x + self.rate * (gradient + self.momentum * velocity), velocity
