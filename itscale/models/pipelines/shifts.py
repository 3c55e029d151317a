"""How a flow's times move towards noise with the size of what is made."""

from __future__ import annotations

from typing import Any

from itscale.grids import DynamicShifted, Grid, Shifted, Stretched, Uniform


def shift_exponent(scheduler: Any, tokens: int, highest: float = 1.15) -> float:
    """The logarithm of the shift, linear in the number of tokens, by the scheduler's configuration."""
    config = scheduler.config
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", highest)
    return least + (most - least) * (tokens - low) / (high - low)


def flow_grid(scheduler: Any, tokens: int) -> Grid:
    """A scheduler's shift and stretch as a grid, each applied once."""
    config = scheduler.config
    grid: Grid = Uniform()
    if config.get("use_dynamic_shifting", False):
        exponent = shift_exponent(scheduler, tokens)
        grid = DynamicShifted(tokens=tokens, low=exponent, high=exponent)
    elif (shift := float(config.get("shift") or config.get("flow_shift") or 1)) != 1:
        grid = Shifted(shift)
    last = config.get("shift_terminal")
    return Stretched(grid, float(last)) if last else grid
