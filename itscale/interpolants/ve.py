"""The variance-exploding path with geometric noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time


@dataclass(frozen=True)
class VE(Interpolant):
    """``alpha = 1``, ``sigma = sigma_min (sigma_max / sigma_min)^(1 - t)``.

    The path ends with noise ``sigma_min``, not 0; the last step of a sampler removes it by jumping to the
    denoised sample.

    Reference:
        Song et al. (2021), arXiv:2011.13456, its VE SDE. Defaults: its CIFAR-10 models.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"VE needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Time | float) -> Time:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time | float) -> Time:
        return self.sigma_min * torch.exp(self._rate * (1 - as_time(t)))

    def d_alpha(self, t: Time | float) -> Time:
        return torch.zeros_like(as_time(t))

    def d_sigma(self, t: Time | float) -> Time:
        return -self._rate * self.sigma(t)

    def t_of_kappa(self, kappa: Time | float) -> Time:
        return (1 - torch.log(clip_kappa(self, kappa) / self.sigma_min) / self._rate).clamp(0, 1)
