"""A difference potential on a power of the value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tempered:
    """``log G_k = a_k v_k - a_(k-1) v_(k-1)``: telescopes for whatever exponents ``a``.

    Attributes:
        exponent: ``a_k``, one for all groups or (g,).
    """

    exponent: Tensor
    initial: float = 0.0

    def __call__(self, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        exponent = self.exponent if self.exponent.ndim == 0 else self.exponent[:, None]
        power = torch.where(exponent == 0, 0.0, exponent * value)  # 0 * -inf: nothing is ruled out yet
        return power - memory, power
