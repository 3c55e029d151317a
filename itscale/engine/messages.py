"""What passes between the driver and the place where the rows live."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.noise import Address


@dataclass(frozen=True)
class Place:
    """Which particles the rows are: noise address, and index of their group in this run."""

    address: Address
    group: Int64[Tensor, " rows"]

    def __len__(self) -> int:
        return len(self.address)


@dataclass(frozen=True)
class Scored:
    """Scores on the driver: float64 rewards, whether each is one, whether the state is finite.

    Attributes:
        calls: how often the reward ran; less than it was asked where a cache answered.
        invalid: samples without a score, where a score stands for several; None is one a row.
    """

    reward: Float64[Tensor, " rows"]
    valid: Tensor
    finite: Tensor
    calls: Int64[Tensor, " rows"]
    reasons: tuple[str, ...] = ()
    invalid: int | None = None

    @classmethod
    def of(cls, values: Float64[Tensor, " rows"], x: Tensor) -> Scored:
        """Make scores of what a differentiable reward returned: NaN and +inf are invalid.

        Args:
            values: where the rows live.
            x: their states.
        """
        valid = ~(values.isnan() | (values == math.inf))
        packed = torch.stack([values, valid.double(), finite_rows(x).double()])
        reward, ok, alive = packed.cpu()  # the one copy to the host of a scored step
        return cls(reward, ok.bool(), alive.bool(), torch.ones(len(values), dtype=torch.int64))


def finite_rows(x: Tensor) -> Bool[Tensor, " rows"]:
    """Whether each state is finite; no infinity or NaN gets lost in a sum, and a sum is one quick pass."""
    return x.flatten(1).sum(dim=1, dtype=torch.float64).isfinite()
