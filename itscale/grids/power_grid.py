"""Noise times equal in a root of themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.grids.base import Times, check_positive, check_start, from_noise_time
from itscale.interpolants import Interpolant


def power(interpolant: Interpolant, steps: int, t_start: float = 0.0, *, rho: float = 2.0) -> Times:
    """Noise times ``(1 - i/steps)^rho``: shorter and shorter steps towards the data; ``rho = 1`` is uniform.

    Reference:
        Zhang and Chen (2023), "Fast Sampling of Diffusion Models with Exponential Integrator",
        arXiv:2204.13902: the default of its released code, there down to a least time above 0, which is the
        jump to the data here.
    """
    check_start(steps, t_start)
    u = torch.arange(steps, -1, -1, dtype=torch.float64) / steps
    return from_noise_time((1 - t_start) * u**rho, t_start)


@dataclass(frozen=True)
class Power:
    """Settings of :func:`power`."""

    rho: float = 2.0

    def __post_init__(self) -> None:
        check_positive("Power", "rho", self.rho)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return power(interpolant, steps, t_start, rho=self.rho)
