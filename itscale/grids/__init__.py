"""Time grids: where a sampler evaluates the model. One file a family; one line each in the table.

A grid of ``steps`` intervals is a float64 CPU tensor of ``steps + 1`` increasing times, from ``t_start``
(noise) to 1 (data). The last interval is the jump to the denoised sample, so the model is asked at the first
``steps`` times.
"""

from __future__ import annotations

from itscale.errors import ConfigError, unknown_name
from itscale.grids.base import Grid, Times, validate_grid
from itscale.grids.kappa import Karras, LogSNR, PolyExponential, karras, log_snr, poly_exponential
from itscale.grids.power_grid import Power, power
from itscale.grids.quarter_circle_grid import QuarterCircle, quarter_circle
from itscale.grids.ratios import Ratios
from itscale.grids.shifted_grid import DynamicShifted, Shifted, dynamic_shift, shifted
from itscale.grids.spaced_grid import Spaced, spaced
from itscale.grids.stretched_grid import Stretched, stretched
from itscale.grids.uniform_grid import Uniform, uniform

__all__ = [
    "GRIDS",
    "DynamicShifted",
    "Grid",
    "Karras",
    "LogSNR",
    "PolyExponential",
    "Power",
    "QuarterCircle",
    "Ratios",
    "Shifted",
    "Spaced",
    "Stretched",
    "Times",
    "Uniform",
    "dynamic_shift",
    "get_grid",
    "karras",
    "log_snr",
    "poly_exponential",
    "power",
    "quarter_circle",
    "shifted",
    "spaced",
    "stretched",
    "uniform",
    "validate_grid",
]


GRIDS: dict[str, type[Grid]] = {
    "uniform": Uniform,
    "log-snr": LogSNR,
    "karras": Karras,
    "poly-exponential": PolyExponential,
    "shifted": Shifted,
    "quarter-circle": QuarterCircle,
    "power": Power,
    "dynamic-shifted": DynamicShifted,
    "stretched": Stretched,
    "spaced": Spaced,
}


def get_grid(grid: str | Grid) -> Grid:
    """Return a grid recipe as it is, or the one of this name with its default settings.

    Raises:
        UnknownName: if no grid has this name.
        ConfigError: if neither a name nor a recipe is given.
    """
    if isinstance(grid, str):
        try:
            return GRIDS[grid.lower().replace("_", "-")]()
        except KeyError:
            raise unknown_name("time grid", grid, GRIDS) from None
    if isinstance(grid, type) or not callable(grid):
        raise ConfigError(
            f"a time grid must be a name ({', '.join(GRIDS)}) or a recipe such as Karras(), got {grid!r}"
        )
    return grid
