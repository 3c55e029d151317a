"""The straight path of rectified flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time


@dataclass(frozen=True)
class Linear(Interpolant):
    """``alpha = t``, ``sigma = 1 - t``: rectified flow, SD3, FLUX, Wan, LTX. Wronskian 1.

    Reference:
        Liu, Gong and Liu (2022), "Flow Straight and Fast", arXiv:2209.03003.
    """

    @property
    def t_max(self) -> float:
        return 1.0

    def alpha(self, t: Time | float) -> Time:
        return as_time(t).clone()

    def sigma(self, t: Time | float) -> Time:
        return 1 - as_time(t)

    def d_alpha(self, t: Time | float) -> Time:
        return torch.ones_like(as_time(t))

    def d_sigma(self, t: Time | float) -> Time:
        return -torch.ones_like(as_time(t))

    def t_of_kappa(self, kappa: Time | float) -> Time:
        return 1 / (1 + clip_kappa(self, kappa))
