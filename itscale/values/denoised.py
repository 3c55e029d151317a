"""The value that costs nothing: the reward of the denoised sample."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from itscale.process import ContinuousProcess


@dataclass(frozen=True)
class Denoised:
    """The reward of ``E[x_1 | x_t]``, which a look gives.

    Cost: one reward call a score. Misleading where the reward bends over the width of ``x_1 | x_t``.
    """

    def build(self, process: ContinuousProcess, times: Tensor) -> None:
        return None
