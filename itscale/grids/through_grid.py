"""A grid that goes through given noise-to-signal ratios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants import Interpolant


@dataclass(frozen=True)
class Through:
    """Another grid with its nearest inner points moved, so that every ``kappa`` is met exactly.

    Attributes:
        kappas: noise-to-signal ratios to meet.
        inner: the other grid, or its name.
    """

    kappas: tuple[float, ...]
    inner: Any = "uniform"

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float) -> Tensor:
        from itscale.grids import get_grid  # whose table may name this file

        times = get_grid(self.inner)(interpolant, steps, t_start).clone()
        wanted = interpolant.t_of_kappa(torch.tensor(self.kappas, dtype=torch.float64)).double().sort().values
        if len(wanted) > steps - 1 or float(wanted.min()) <= float(times[0]):
            raise ConfigError(
                f"{len(wanted)} levels of noise, the highest {max(self.kappas):.4g}, do not fit into "
                f"{steps} steps; "
                "take more steps, or fewer levels"
            )
        free = list(range(1, steps))
        for k, t in enumerate(wanted.tolist()):
            left = len(wanted) - k - 1  # points that later ones still need
            nearest = min(free[: len(free) - left], key=lambda j: abs(float(times[j]) - t))
            times[nearest] = t
            free = [j for j in free if j > nearest]
        return times.sort().values
