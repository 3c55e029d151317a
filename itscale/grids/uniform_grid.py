"""Times at equal distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.grids.base import Times, check_start, validate_grid
from itscale.interpolants import Interpolant


def uniform(interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
    """Times at equal distances."""
    check_start(steps, t_start)
    return validate_grid(torch.linspace(t_start, 1.0, steps + 1, dtype=torch.float64))


@dataclass(frozen=True)
class Uniform:
    """Settings of :func:`uniform`."""

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return uniform(interpolant, steps, t_start)
