"""One forward step of the process: from the end of a move back to where it began, with fresh noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move


@dataclass(frozen=True)
class Retreat:
    """``x_k = (alpha_k / alpha_l) x_l + sqrt(sigma_k^2 - (alpha_k / alpha_l)^2 sigma_l^2) z`` for k < l.

    It takes the marginal at level l to that at level k, whatever the data. Rows need no look before it.

    Attributes:
        kept, std: factors on the state and on the noise.
    """

    kept: float
    std: float
    gaussian: bool = True
    history: int = 0
    takes_levels: bool = False
    is_blind: bool = True

    @classmethod
    def build(cls, process: ContinuousProcess, start: float, end: float) -> Retreat:
        """From time ``start`` back to the earlier time ``end``."""
        path = process.interpolant
        kept = float(path.alpha(end)) / float(path.alpha(start))
        variance = float(path.sigma(end)) ** 2 - (kept * float(path.sigma(start))) ** 2
        return cls(kept, math.sqrt(max(variance, 0.0)))

    def is_noisy(self, level: int) -> bool:
        return self.std > 0

    def extra_looks(self, level: int) -> int:
        return 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        mean = self.kept * at.x
        return Move(mean if z is None else torch.add(mean, z, alpha=self.std), z, self.std)
