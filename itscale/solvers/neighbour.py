"""A move among initial noises that leaves them normal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Look, Move


@dataclass(frozen=True)
class Neighbour:
    """``x' = c x + s sqrt(1 - c^2) z`` at level 0, where x is s times unit noise.

    A preconditioned Crank-Nicolson proposal: it keeps N(0, s^2 I), and is reversible. Without noise it
    returns the mean of the move.

    Attributes:
        cosine: c; 0 draws anew.

    Reference:
        Cotter, Roberts, Stuart and White (2013), "MCMC Methods for Functions", section 4.2.
    """

    cosine: float
    gaussian: bool = True
    history: int = 0
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return True

    def extra_looks(self, level: int) -> int:
        return 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        mean = self.cosine * at.x
        std = float(at.interpolant.sigma(float(at.t))) * math.sqrt(1 - self.cosine**2)
        return Move(mean if z is None else torch.add(mean, z, alpha=std), z, std)
