"""Rows of numbers and nothing else, for measuring what it costs to move them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.pools.base import Held


@dataclass(frozen=True)
class PlainRows(Held):
    """States (rows, d)."""

    x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Int64[Tensor, " m"]) -> PlainRows:
        """Gather rows."""
        return PlainRows(self.x[index.to(self.x.device)])

    def to(self, device: Any) -> PlainRows:
        """Move the rows to a device."""
        return PlainRows(self.x.to(device))

    def only(self, names: Sequence[str]) -> PlainRows:
        """There is one field, which stays."""
        return self

    @property
    def present(self) -> tuple[str, ...]:
        """The one field."""
        return ("x",)

    @classmethod
    def join(cls, parts: list[PlainRows]) -> PlainRows:
        """Put rows after one another."""
        return cls(torch.cat([part.x for part in parts]))

    @classmethod
    def reunite(cls, parts: list[PlainRows]) -> PlainRows:
        """As ``join``."""
        return cls.join(parts)
