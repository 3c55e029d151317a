"""The path of mean-reverting diffusions: an Ornstein-Uhlenbeck process of a given stationary spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Interpolant):
    """``alpha = exp(-Theta)``, ``sigma = spread sqrt(1 - alpha^2)``; the rate grows like a sine squared.

    In noise time ``tau = 1 - t``, ``Theta`` is proportional to ``tau - sin(pi tau) / pi`` and reaches
    ``-log(alpha_end)``. States are deviations from the mean that the process reverts to: see
    ``models.MeanReverting``. A departure from the paper's code: its rate is offset by 0.008 at the data end.

    Args:
        spread: stationary standard deviation of the state, the published lambda.
        alpha_end: what is left of the data at t = 0.

    Reference:
        Luo et al. (2023), "Image Restoration with Mean-Reverting Stochastic Differential Equations",
        arXiv:2301.11699, eqs. (6) and (7). Defaults: its released settings.
    """

    spread: float = 50 / 255
    alpha_end: float = 0.005

    def __post_init__(self) -> None:
        if not (self.spread > 0 and 0 < self.alpha_end < 1):
            raise ConfigError(
                f"OrnsteinUhlenbeck needs spread > 0 and 0 < alpha_end < 1, got {self.spread} "
                f"and {self.alpha_end}"
            )

    @property
    def t_max(self) -> float:
        return 1 - 1e-3

    @property
    def _total(self) -> float:
        return -math.log(self.alpha_end)

    def _theta(self, t: Time | float) -> Time:
        return self._total * _eased(1 - as_time(t))

    def _rate(self, t: Time | float) -> Time:
        return self._total * 2 * torch.sin(math.pi / 2 * (1 - as_time(t))) ** 2

    def alpha(self, t: Time | float) -> Time:
        return torch.exp(-self._theta(t))

    def sigma(self, t: Time | float) -> Time:
        return self.spread * torch.sqrt(-torch.expm1(-2 * self._theta(t)))

    def d_alpha(self, t: Time | float) -> Time:
        return self._rate(t) * self.alpha(t)

    def d_sigma(self, t: Time | float) -> Time:
        sigma = self.sigma(t)
        slope = -(self.spread**2) * self._rate(t) * self.alpha(t) ** 2 / sigma
        return torch.where(sigma > 0, slope, torch.zeros_like(sigma))  # falls like the root of 1 - t

    def t_of_kappa(self, kappa: Time | float) -> Time:
        wanted = torch.log1p((clip_kappa(self, kappa) / self.spread) ** 2) / (2 * self._total)
        with torch.no_grad():
            low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
            for _ in range(60):
                middle = (low + high) / 2
                below = _eased(middle) < wanted
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        tau = (low + high) / 2
        # a step of Newton's, which changes nothing but lets gradients through
        slope = (2 * torch.sin(math.pi / 2 * tau) ** 2).clamp(min=1e-300)
        return (1 - tau - (wanted - wanted.detach()) / slope).clamp(0, 1)


def _eased(tau: Time) -> Time:
    """``tau - sin(pi tau) / pi``, without the cancellation at small tau."""
    square = (math.pi * tau) ** 2
    series = tau * square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72 * (1 - square / 110))))
    return torch.where(tau < 0.1, series, tau - torch.sin(math.pi * tau) / math.pi)
