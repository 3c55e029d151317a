"""The variance-preserving path on a quarter of the circle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time

_QUARTER = math.pi / 2


@dataclass(frozen=True)
class Trigonometric(Interpolant):
    """``alpha = sin(pi t / 2)``, ``sigma = cos(pi t / 2)``: "GVP" in SiT. Wronskian pi/2.

    The cosine is taken as a sine of ``1 - t``, so that it is exactly 0 at t = 1.

    Reference:
        Albergo and Vanden-Eijnden (2022), arXiv:2209.15571; Ma et al. (2024), "SiT", arXiv:2401.08740.
    """

    @property
    def t_max(self) -> float:
        return 1.0

    def alpha(self, t: Time | float) -> Time:
        return torch.sin(_QUARTER * as_time(t))

    def sigma(self, t: Time | float) -> Time:
        return torch.sin(_QUARTER * (1 - as_time(t)))

    def d_alpha(self, t: Time | float) -> Time:
        return _QUARTER * self.sigma(t)

    def d_sigma(self, t: Time | float) -> Time:
        return -_QUARTER * self.alpha(t)

    def t_of_kappa(self, kappa: Time | float) -> Time:
        kappa = clip_kappa(self, kappa)
        return torch.atan2(torch.ones_like(kappa), kappa) / _QUARTER
