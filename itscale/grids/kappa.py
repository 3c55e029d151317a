"""Grids spaced in a function of the noise-to-signal ratio ``kappa``.

They place the first ``steps`` times between ``kappa(t_start)``, capped at ``kappa_max`` where it is larger or
infinite, and ``kappa_min``, raised to what the path allows at its ``t_max``. The first time is ``t_start``
itself whatever the cap. On a path that ends with noise (VE) the last time, 1, is part of the spacing and
``kappa_min`` is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.grids.base import Times, check_positive, check_start, from_kappa
from itscale.interpolants import Interpolant


def log_snr(
    interpolant: Interpolant,
    steps: int,
    t_start: float = 0.0,
    *,
    kappa_max: float = 80.0,
    kappa_min: float = 0.002,
) -> Times:
    """Ratios ``kappa`` in geometric progression: equal distances in log-SNR ("exponential")."""
    return poly_exponential(interpolant, steps, t_start, rho=1.0, kappa_max=kappa_max, kappa_min=kappa_min)


def karras(
    interpolant: Interpolant,
    steps: int,
    t_start: float = 0.0,
    *,
    rho: float = 7.0,
    kappa_max: float = 80.0,
    kappa_min: float = 0.002,
) -> Times:
    """Equal distances in ``kappa^(1/rho)``.

    The N points plus a zero of the paper are N intervals here.

    Reference:
        Karras et al. (2022), arXiv:2206.00364, eq. (5); defaults of its Table 1.
    """

    def spacing(u: Tensor, high: float, low: float) -> Tensor:
        return karras_spacing(u, high, low, rho)

    return _kappa_grid(interpolant, steps, t_start, kappa_max, kappa_min, spacing)


def karras_spacing(u: Tensor, high: float | Tensor, low: float | Tensor, rho: float = 7.0) -> Tensor:
    """``(high^(1/rho) + u (low^(1/rho) - high^(1/rho)))^rho``, the ratio at the share ``u`` of the way."""
    return (high ** (1 / rho) + u * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def poly_exponential(
    interpolant: Interpolant,
    steps: int,
    t_start: float = 0.0,
    *,
    rho: float = 1.0,
    kappa_max: float = 80.0,
    kappa_min: float = 0.002,
) -> Times:
    """``log kappa`` falls as the power ``(1 - u)^rho`` of the remaining share of the grid (k-diffusion)."""

    def spacing(u: Tensor, high: float, low: float) -> Tensor:
        return low * torch.exp((1 - u) ** rho * math.log(high / low))

    return _kappa_grid(interpolant, steps, t_start, kappa_max, kappa_min, spacing)


def _kappa_grid(
    interpolant: Interpolant,
    steps: int,
    t_start: float,
    kappa_max: float,
    kappa_min: float,
    spacing: Callable[[Tensor, float, float], Tensor],
) -> Times:
    check_start(steps, t_start)
    end = float(interpolant.kappa(1.0))
    high = min(float(interpolant.kappa(t_start)), kappa_max)
    low = end if end > 0 else max(kappa_min, float(interpolant.kappa(interpolant.t_max)))
    if not 0 < low < high:
        raise ConfigError(
            f"the grid would run from kappa = sigma/alpha = {high:g} (t_start {t_start:g}, or kappa_max) "
            f"down to {low:g}; start earlier, or choose kappa_min below kappa_max and the start"
        )
    inner = steps - 1 if end == 0 else steps  # intervals that the spacing covers
    u = torch.arange(steps, dtype=torch.float64) / max(inner, 1)
    return from_kappa(interpolant, spacing(u, high, low).clamp(low, high), t_start)


@dataclass(frozen=True)
class LogSNR:
    """Settings of :func:`log_snr`."""

    kappa_max: float = 80.0
    kappa_min: float = 0.002

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return log_snr(interpolant, steps, t_start, kappa_max=self.kappa_max, kappa_min=self.kappa_min)


@dataclass(frozen=True)
class Karras:
    """Settings of :func:`karras`."""

    rho: float = 7.0
    kappa_max: float = 80.0
    kappa_min: float = 0.002

    def __post_init__(self) -> None:
        check_positive("Karras", "rho", self.rho)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return karras(
            interpolant, steps, t_start, rho=self.rho, kappa_max=self.kappa_max, kappa_min=self.kappa_min
        )


@dataclass(frozen=True)
class PolyExponential:
    """Settings of :func:`poly_exponential`."""

    rho: float = 1.0
    kappa_max: float = 80.0
    kappa_min: float = 0.002

    def __post_init__(self) -> None:
        check_positive("PolyExponential", "rho", self.rho)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return poly_exponential(
            interpolant, steps, t_start, rho=self.rho, kappa_max=self.kappa_max, kappa_min=self.kappa_min
        )
