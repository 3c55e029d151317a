"""Whole time labels of a model trained on discrete times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from itscale.errors import ConfigError, unknown_name
from itscale.grids.base import Times, check_start, validate_grid
from itscale.interpolants import Interpolant, Linear, Table


def spaced(
    interpolant: Interpolant, steps: int, t_start: float = 0.0, *, spacing: str = "trailing", offset: int = 0
) -> Times:
    """Whole time labels of a model trained on n of them (1000 off a table), as diffusers spaces them.

    Label i is the time ``(n - 1 - i) / n``. ``leading`` (which alone uses ``offset``) and any spacing of one
    step start later than ``t_start``. With ``t_start > 0`` the grid covers the rest in the same proportions.

    Reference:
        Lin et al. (2024), "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv:2305.08891.
    """
    check_start(steps, t_start)
    n = len(interpolant.alphas_bar) if isinstance(interpolant, Table) else 1000
    spacings: dict[str, Callable[[int], int]] = {
        "leading": lambda i: offset + (steps - 1 - i) * (n // steps),
        "trailing": lambda i: round(n - i * n / steps) - 1,
        "linspace": lambda i: round((steps - 1 - i) * (n - 1) / max(steps - 1, 1)),
    }
    if spacing not in spacings:
        raise unknown_name("spacing", str(spacing), spacings)
    labels = [spacings[spacing](i) for i in range(steps)]
    if steps > n or labels[0] >= n or labels[-1] < 0:
        raise ConfigError(
            f"{spacing} spacing of {steps} steps needs labels {labels[-1]} to {labels[0]} and there are {n}; "
            "take fewer steps or another offset"
        )
    times = (n - 1 - torch.tensor(labels, dtype=torch.float64)) / n
    return validate_grid(torch.cat([t_start + (1 - t_start) * times, torch.ones(1, dtype=torch.float64)]))


@dataclass(frozen=True)
class Spaced:
    """Settings of :func:`spaced`."""

    spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    offset: int = 0

    def __post_init__(self) -> None:
        spaced(Linear(), 1, spacing=self.spacing)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return spaced(interpolant, steps, t_start, spacing=self.spacing, offset=self.offset)
