"""A grid given by its noise-to-signal ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from itscale.errors import ConfigError
from itscale.grids.base import Times, check_start, from_kappa
from itscale.interpolants import Interpolant


@dataclass(frozen=True)
class Ratios:
    """Looks at given noise-to-signal ratios, for as many steps as there are of them.

    As in other grids the first time is ``t_start`` whatever the first ratio.

    Attributes:
        kappas: at least two, falling, positive and finite.
    """

    kappas: tuple[float, ...]

    def __post_init__(self) -> None:
        fall = all(a > b for a, b in pairwise(self.kappas))
        if len(self.kappas) < 2 or not fall or not self.kappas[-1] > 0 or not self.kappas[0] < math.inf:
            raise ConfigError(f"kappas must fall from a finite to a positive ratio, got {self.kappas}")

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        check_start(steps, t_start)
        low, high = (float(interpolant.kappa(t)) for t in (interpolant.t_max, t_start))
        slack = 1e-9  # a schedule for this very start may end in other digits
        if steps != len(self.kappas):
            raise ConfigError(f"{len(self.kappas)} kappas are a grid of so many steps, and steps is {steps}")
        if self.kappas[0] > high * (1 + slack) or self.kappas[-1] < low * (1 - slack):
            raise ConfigError(
                f"the path runs from kappa = {high:g} (at t_start {t_start:g}) to {low:g}, and kappas from "
                f"{self.kappas[0]:g} to {self.kappas[-1]:g}; they were made for another path"
            )
        kappas = torch.tensor(self.kappas, dtype=torch.float64).clamp(low, high)
        return from_kappa(interpolant, kappas, t_start)
