"""The variance-preserving path with a cosine signal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time


@dataclass(frozen=True)
class Cosine(Interpolant):
    """``alpha = cos(pi/2 (tau + s)/(1 + s)) / cos(pi/2 s/(1 + s))`` in noise time ``tau = 1 - t``.

    Written through ``a = pi/2 t/(1 + s)``, which makes ``alpha(0)`` exactly 0 and gives ``sigma`` as a
    product of sines without cancellation. ``sigma'`` is ``-inf`` at t = 1, hence ``t_max = 1 - 1e-5``.
    The discrete schedule of the paper stops at ``kappa`` about 200 (beta <= 0.999); this one does not stop.

    Reference:
        Nichol and Dhariwal (2021), "Improved Denoising Diffusion Probabilistic Models", arXiv:2102.09672,
        eq. (17).
    """

    s: float = 0.008

    def __post_init__(self) -> None:
        if not self.s > 0:
            raise ConfigError(f"Cosine needs s > 0, got {self.s}; for s = 0 use Trigonometric")

    @property
    def t_max(self) -> float:
        return 1 - 1e-5

    @property
    def _end(self) -> float:
        return math.pi / 2 / (1 + self.s)

    def alpha(self, t: Time | float) -> Time:
        return torch.sin(self._end * as_time(t)) / math.sin(self._end)

    def sigma(self, t: Time | float) -> Time:
        # sin^2(b) - sin^2(a) = sin(b - a) sin(b + a)
        t = as_time(t)
        square = torch.sin(self._end * (1 - t)) * torch.sin(self._end * (1 + t))
        return torch.sqrt(square) / math.sin(self._end)

    def d_alpha(self, t: Time | float) -> Time:
        return self._end * torch.cos(self._end * as_time(t)) / math.sin(self._end)

    def d_sigma(self, t: Time | float) -> Time:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def t_of_kappa(self, kappa: Time | float) -> Time:
        kappa = clip_kappa(self, kappa)
        # tan(a) = sin(b) / sqrt(cos^2(b) + kappa^2), from sin(a) sqrt(1 + kappa^2) = sin(b)
        angle = torch.atan2(
            torch.full_like(kappa, math.sin(self._end)), torch.sqrt(math.cos(self._end) ** 2 + kappa**2)
        )
        return (angle / self._end).clamp(0, 1)
