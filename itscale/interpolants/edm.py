"""The variance-exploding path whose noise falls linearly."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time


@dataclass(frozen=True)
class EDM(Interpolant):
    """``alpha = 1``, ``sigma = sigma_max (1 - t)``: noise 0 at t = 1. Wronskian ``sigma_max``.

    ``sigma_min`` is the smallest noise the network was trained at: ``t_max`` is where it is reached.

    Reference:
        Karras et al. (2022), "Elucidating the Design Space of Diffusion-Based Generative Models",
        arXiv:2206.00364, Table 1. Their time is ``sigma`` itself.
    """

    sigma_max: float = 80.0
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"EDM needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def t_max(self) -> float:
        return 1 - self.sigma_min / self.sigma_max

    def alpha(self, t: Time | float) -> Time:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time | float) -> Time:
        return self.sigma_max * (1 - as_time(t))

    def d_alpha(self, t: Time | float) -> Time:
        return torch.zeros_like(as_time(t))

    def d_sigma(self, t: Time | float) -> Time:
        return torch.full_like(as_time(t), -self.sigma_max)

    def t_of_kappa(self, kappa: Time | float) -> Time:
        return 1 - clip_kappa(self, kappa) / self.sigma_max
