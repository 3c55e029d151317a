"""Another grid, stretched so that its last look is noisier."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.grids.base import Grid, Times, validate_grid
from itscale.interpolants import Interpolant


def stretched(times: Times, terminal: float = 0.1) -> Times:
    """Stretch a grid from its first time so that the last look is at noise time ``terminal`` (LTX)."""
    first, last = float(times[0]), float(times[-2])
    if len(times) == 2:
        return times
    if not first < 1 - terminal < 1:
        raise ConfigError(f"terminal must lie between 0 and 1 - t_start = {1 - first:g}, got {terminal:g}")
    inner = first + (times[:-1] - first) * ((1 - terminal - first) / (last - first))
    inner[0] = first
    return validate_grid(torch.cat([inner, times[-1:]]))


@dataclass(frozen=True)
class Stretched:
    """Another grid, :func:`stretched`."""

    grid: str | Grid = "shifted"
    terminal: float = 0.1

    def __post_init__(self) -> None:
        _recipe(self.grid)
        if not 0 < self.terminal < 1:
            raise ConfigError(f"Stretched needs terminal in (0, 1), got {self.terminal}")

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return stretched(_recipe(self.grid)(interpolant, steps, t_start), self.terminal)


def _recipe(grid: str | Grid) -> Grid:
    from itscale.grids import get_grid  # the table holds Stretched itself

    return get_grid(grid)
