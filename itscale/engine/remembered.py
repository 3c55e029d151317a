"""What moved rows remember for a multistep solver, collected piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.types import sent


class Remembered:
    """Histories of rows that are moved in pieces, each piece with as many tensors as its rows have."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._fields: list[Tensor] = []
        self._pieces: list[tuple[Any, int]] = []

    def put(self, where: slice | Tensor, memory: Sequence[Tensor]) -> None:
        """Note what the rows ``where`` (on the host) remember, newest first."""
        is_first = not self._pieces
        there = sent(where, self._x.device) if isinstance(where, Tensor) else where
        for j, tensor in enumerate(memory):
            if j == len(self._fields):
                self._fields.append((torch.empty_like if is_first else torch.zeros_like)(self._x))
            self._fields[j][there] = tensor
        for field in self._fields[len(memory) :]:
            field[there] = 0
        self._pieces.append((where, len(memory)))

    @property
    def history(self) -> tuple[Tensor, ...]:
        """The tensors of all rows; zeros where a row has none."""
        return tuple(self._fields)

    @property
    def depth(self) -> Int64[Tensor, " rows"] | None:
        """How many tensors are each row's own, on the host; None where all are."""
        if all(count == len(self._fields) for _, count in self._pieces):
            return None
        found = torch.empty(len(self._x), dtype=torch.int64)
        for where, count in self._pieces:
            found[where] = count
        return found
