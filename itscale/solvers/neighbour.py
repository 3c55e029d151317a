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

    A preconditioned Crank-Nicolson proposal: it keeps N(0, s^2 I).

    Attributes:
        cosine: c; 0 draws anew.

    Reference:
        Cotter, Roberts, Stuart and White (2013), "MCMC Methods for Functions", section 4.2.
    """

    cosine: float
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return True

    def extra_looks(self, level: int) -> int:
        return 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert z is not None
        scale = float(at.interpolant.sigma(float(at.t)))
        return Move(torch.add(self.cosine * at.x, z, alpha=scale * math.sqrt(1 - self.cosine**2)), z)
