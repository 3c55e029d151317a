"""The path of a model trained on a discrete list of noise levels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants.base import Interpolant, as_time, clip_kappa
from itscale.types import Time


def _ddpm() -> tuple[float, ...]:
    return _alphas_bar(torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64))


def _alphas_bar(betas: Tensor) -> tuple[float, ...]:
    return tuple(torch.cumprod(1 - betas, dim=0).tolist())


@dataclass(frozen=True)
class Table(Interpolant):
    """A DDPM table made continuous: ``log kappa`` is piecewise linear in the index.

    Index n-1, the noisiest, is t = 0; index 0 is ``t_max = (n-1)/n``; from there ``kappa`` falls linearly to
    0 at t = 1. ``alpha = 1/sqrt(1 + kappa^2)`` and ``sigma = kappa alpha``. Derivatives are exact for this
    path; at a knot they are those of the piece ahead, towards the data.

    Args:
        alphas_bar: ``alpha^2`` by index, the least noisy first, strictly falling inside (0, 1). The default
            is the table of Ho et al. (2020), arXiv:2006.11239.
    """

    alphas_bar: tuple[float, ...] = _ddpm()

    def __post_init__(self) -> None:
        values = tuple(float(a) for a in self.alphas_bar)
        object.__setattr__(self, "alphas_bar", values)
        if len(values) < 2 or not all(1 > a > b > 0 for a, b in pairwise(values)):
            raise ConfigError(
                "alphas_bar must hold at least two values that fall strictly from below 1 to above 0 "
                f"(index 0 is the least noisy), got {len(values)} values from {values[:1]} to {values[-1:]}; "
                "give a last value of exactly 0 (zero terminal SNR) as 2**-24"
            )

    @cached_property
    def _hash(self) -> int:
        return hash(self.alphas_bar)

    def __hash__(self) -> int:
        return self._hash  # a thousand numbers are hashed once

    def __repr__(self) -> str:
        first, last = self.alphas_bar[0], self.alphas_bar[-1]
        return f"Table({len(self.alphas_bar)} levels, alphas_bar {first:.6g} to {last:.6g})"

    @classmethod
    def from_betas(cls, betas: Iterable[float]) -> Table:
        """Table of a noise rate per index, ``alphas_bar = cumprod(1 - beta)``."""
        return cls(_alphas_bar(torch.as_tensor(list(betas), dtype=torch.float64)))

    @classmethod
    def linear(cls, beta_start: float = 1e-4, beta_end: float = 2e-2, n: int = 1000) -> Table:
        """DDPM and DiT; ``kappa`` from 157.4 to 0.0100."""
        return cls(_alphas_bar(torch.linspace(beta_start, beta_end, n, dtype=torch.float64)))

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, n: int = 1000) -> Table:
        """Stable Diffusion 1.5, 2.1 and XL: ``sqrt(beta)`` linear; ``kappa`` from 14.61 to 0.0292."""
        return cls(_alphas_bar(torch.linspace(beta_start**0.5, beta_end**0.5, n, dtype=torch.float64) ** 2))

    @property
    def t_max(self) -> float:
        return (len(self.alphas_bar) - 1) / len(self.alphas_bar)

    @cached_property
    def _log_kappa(self) -> Tensor:
        alphas_bar = torch.tensor(self.alphas_bar, dtype=torch.float64)
        return (torch.log1p(-alphas_bar) - torch.log(alphas_bar)) / 2

    def index_of(self, t: Time | float) -> Time:
        """Fractional index: the time label of the model. 0 from ``t_max`` on."""
        n = len(self.alphas_bar)
        return (n - 1 - n * as_time(t)).clamp(min=0)

    def _kappa_and_slope(self, t: Time | float) -> tuple[Time, Time]:
        t = as_time(t)
        n, knots = len(self.alphas_bar), self._log_kappa.to(t.device)
        index = n - 1 - n * t
        below = (torch.ceil(index.detach()).long() - 1).clamp(0, n - 2)
        rise = knots[below + 1] - knots[below]
        kappa = torch.exp(knots[below] + (index - below) * rise)
        closing = index <= 0
        first = torch.exp(knots[0])
        kappa = torch.where(closing, first * n * (1 - t), kappa)
        return kappa, torch.where(closing, -n * first, -n * rise * kappa)

    def alpha(self, t: Time | float) -> Time:
        kappa, _ = self._kappa_and_slope(t)
        return torch.rsqrt(1 + kappa**2)

    def sigma(self, t: Time | float) -> Time:
        kappa, _ = self._kappa_and_slope(t)
        return kappa * torch.rsqrt(1 + kappa**2)

    def d_alpha(self, t: Time | float) -> Time:
        kappa, slope = self._kappa_and_slope(t)
        return -kappa * slope * torch.rsqrt(1 + kappa**2) ** 3

    def d_sigma(self, t: Time | float) -> Time:
        kappa, slope = self._kappa_and_slope(t)
        return slope * torch.rsqrt(1 + kappa**2) ** 3

    def t_of_kappa(self, kappa: Time | float) -> Time:
        kappa = clip_kappa(self, kappa)
        n, knots = len(self.alphas_bar), self._log_kappa.to(kappa.device)
        log_kappa = torch.log(kappa)
        below = (torch.searchsorted(knots, log_kappa) - 1).clamp(0, n - 2)
        index = below + (log_kappa - knots[below]) / (knots[below + 1] - knots[below])
        first = torch.exp(knots[0])
        return torch.where(kappa <= first, 1 - kappa / (first * n), (n - 1 - index) / n).clamp(0, 1)
