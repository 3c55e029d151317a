"""The variance-preserving path with a linear noise rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time


@dataclass(frozen=True)
class VP(Interpolant):
    """``alpha = exp(-I/2)``, ``sigma = sqrt(1 - exp(-I))`` with ``I`` the integral of beta over noise time.

    ``beta`` grows linearly in noise time ``1 - t`` from ``beta_min`` (data) to ``beta_max`` (noise).
    ``alpha(0)`` is 0.00657, not 0, so ``kappa`` ends at 152; ``sigma'`` is ``-inf`` at t = 1, hence
    ``t_max = 1 - 1e-5``, the cut-off of the reference. Wronskian ``beta alpha / (2 sigma)``.

    Reference:
        Song et al. (2021), "Score-Based Generative Modeling through Stochastic Differential Equations",
        arXiv:2011.13456, its VP SDE.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ConfigError(f"VP needs 0 < beta_min <= beta_max, got {self.beta_min} and {self.beta_max}")

    @property
    def t_max(self) -> float:
        return 1 - 1e-5

    def _beta(self, t: Time | float) -> Time:
        return self.beta_min + (self.beta_max - self.beta_min) * (1 - as_time(t))

    def _integral(self, t: Time | float) -> Time:
        tau = 1 - as_time(t)
        return tau * (self.beta_min + (self.beta_max - self.beta_min) * tau / 2)

    def alpha(self, t: Time | float) -> Time:
        return torch.exp(-self._integral(t) / 2)

    def sigma(self, t: Time | float) -> Time:
        return torch.sqrt(-torch.expm1(-self._integral(t)))  # expm1: 1 - exp(-I) cancels near the data

    def d_alpha(self, t: Time | float) -> Time:
        return self._beta(t) * self.alpha(t) / 2

    def d_sigma(self, t: Time | float) -> Time:
        return -self._beta(t) * torch.exp(-self._integral(t)) / (2 * self.sigma(t))

    def t_of_kappa(self, kappa: Time | float) -> Time:
        integral = torch.log1p(clip_kappa(self, kappa) ** 2)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        return (1 - 2 * integral / (root + self.beta_min)).clamp(0, 1)
