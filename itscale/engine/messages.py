"""What passes between the driver and the place where the rows live."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine.rows import Rows
from itscale.noise import Address
from itscale.pools import PerRow
from itscale.types import expand_over_event


@dataclass(frozen=True)
class Place(PerRow):
    """Which particles the rows are: noise address, and index of their group in this run."""

    address: Address
    group: Int64[Tensor, " rows"]

    def __len__(self) -> int:
        return len(self.address)

    def __reduce__(self) -> tuple[Any, ...]:
        # one array in place of five: messages to shards are written far more often than a row moves
        a = self.address
        return _place, (torch.stack([a.group, a.move, a.slot, a.draw, self.group]),)


def _place(packed: Int64[Tensor, "5 rows"]) -> Place:
    *address, group = packed.unbind()
    return Place(Address(*address), group)


@dataclass(frozen=True)
class Near(PerRow):
    """Where the noise of moves is to lie: ``c pivot + sqrt(1 - c^2) xi``, as normal as ``xi`` alone.

    Attributes:
        pivot: rows that kept their noise, one per row that moves.
        cosine: c, in [0, 1], per row that is made.
    """

    pivot: Rows
    cosine: Float64[Tensor, " rows"]

    def __call__(self, xi: Tensor, source: slice | Tensor, made: slice | Tensor) -> Tensor:
        """Return the noise of the rows ``made``, whose pivots are the rows ``source``."""
        assert self.pivot.noise is not None, "the pivot's move did not keep its noise"
        c = expand_over_event(self.cosine[made], xi)
        return c * self.pivot.noise[source] + expand_over_event((1 - self.cosine[made] ** 2).sqrt(), xi) * xi


@dataclass(frozen=True)
class Scored(PerRow):
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
        valid = values < math.inf  # no comparison with NaN holds
        packed = torch.stack([values, valid.double(), sum_of_rows(x)])
        reward, ok, alive = packed.cpu()  # the one copy to the host of a scored step
        return cls(reward, ok.bool(), alive.isfinite(), torch.ones(len(values), dtype=torch.int64))


def sum_of_rows(x: Tensor) -> Float64[Tensor, " rows"]:
    """A finite number where the state is: no infinity or NaN gets lost in a sum, which is one quick pass."""
    return x.flatten(1).sum(dim=1, dtype=torch.float64)
