"""Noise times on a quarter of a circle."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.grids.base import Times, check_start, from_noise_time
from itscale.interpolants import Interpolant


def quarter_circle(interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
    """Noise times ``sqrt(1 - (i/steps)^2)``: dense near noise, one long last jump.

    Made for models distilled to few steps: with 10 steps it collapses the law of an ideal model on VP.

    Reference:
        Kim et al. (2025), "Inference-Time Scaling for Flow Models via Stochastic Generation and Rollover
        Budget Forcing", arXiv:2503.19385 (its released code).
    """
    check_start(steps, t_start)
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    return from_noise_time((1 - t_start) * torch.sqrt((1 - u) * (1 + u)), t_start)


@dataclass(frozen=True)
class QuarterCircle:
    """Settings of :func:`quarter_circle`."""

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return quarter_circle(interpolant, steps, t_start)
