"""What a time grid is: a recipe, and the checks that every recipe and every grid of one's own passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants import Interpolant

Times = Float64[Tensor, " times"]


@runtime_checkable
class Grid(Protocol):
    """A recipe for grids of any number of steps on any path."""

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times: ...


def validate_grid(times: Tensor | Sequence[float]) -> Times:
    """Return the grid in float64 on the CPU.

    Raises:
        ConfigError: if it has fewer than two times, does not increase strictly, or leaves [0, 1].
    """
    grid = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if grid.ndim != 1 or len(grid) < 2:
        raise ConfigError(
            f"a time grid needs at least two times (one step) along one axis, got shape {list(grid.shape)}"
        )
    first, last = float(grid[0]), float(grid[-1])
    shown = f"[{first:g}, ..., {last:g}]" if len(grid) > 2 else f"[{first:g}, {last:g}]"
    gaps = torch.diff(grid)
    if not bool((gaps > 0).all()):
        first_bad = int((~(gaps > 0)).nonzero()[0, 0])
        advice = "reverse it" if bool((gaps < 0).all()) else f"interval {first_bad} does not"
        raise ConfigError(f"time grid must increase from 0 to 1, got {shown}; {advice}")
    if first < 0 or last > 1:
        raise ConfigError(f"time grid must increase from 0 to 1, got {shown}; rescale it into [0, 1]")
    return grid


def check_start(steps: int, t_start: float) -> None:
    """Refuse a grid of no steps, or one that starts outside [0, 1)."""
    if steps < 1:
        raise ConfigError(f"steps counts intervals and must be at least 1, got {steps}")
    if not 0 <= t_start < 1:
        raise ConfigError(f"t_start must lie in [0, 1), got {t_start}; 0 is noise and 1 is data")


def check_positive(grid: str, name: str, value: float) -> None:
    """Refuse a setting that is not positive."""
    if not value > 0:
        raise ConfigError(f"{grid} needs {name} > 0, got {value}")


def from_kappa(interpolant: Interpolant, kappa: Tensor, t_start: float) -> Times:
    """The grid that looks at ``t_start``, at these falling ratios but the first, and ends at the data."""
    times = torch.cat([interpolant.t_of_kappa(kappa), torch.ones(1, dtype=torch.float64)])
    times[0] = t_start
    return validate_grid(times)


def from_noise_time(tau: Tensor, t_start: float) -> Times:
    """The grid of noise times that fall to 0, from ``t_start`` to the last digit."""
    times = 1 - tau
    times[0] = t_start
    return validate_grid(times)
