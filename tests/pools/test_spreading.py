"""Messages are cut up among shards, and cut once for the calls that share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from itscale.pools.base import PerRow, RowsHandle
from itscale.pools.spreading import Layout, cut


@dataclass(frozen=True)
class Numbers(PerRow):
    values: torch.Tensor

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Beside(PerRow):
    rows: Any

    def __len__(self) -> int:
        return len(self.rows)


class Handle(RowsHandle):
    def __len__(self) -> int:
        return 5

    def take(self, index):
        raise AssertionError("nothing moves here")

    def home(self):
        raise AssertionError("nothing comes home here")


LAYOUT = Layout(np.array([1, 0, 1, 2, 0]), 3)


def no_handles(rows, is_whole):
    raise AssertionError("there are none")


def test_every_shard_has_the_entries_of_its_rows():
    message, other = Numbers(torch.arange(5.0)), Numbers(torch.arange(10.0))  # two for each row
    for _ in range(2):  # in turns, so that what was cut last is of the other one
        parts = [cut(message, LAYOUT, shard, no_handles).values.tolist() for shard in range(3)]
        assert parts == [[1, 4], [0, 2], [3]]
        parts = [cut(other, LAYOUT, shard, no_handles).values.tolist() for shard in range(3)]
        assert parts == [[2, 3, 8, 9], [0, 1, 4, 5], [6, 7]]


def test_a_message_is_cut_once_for_the_calls_that_share_it():
    message = Numbers(torch.arange(5.0))
    part = cut(message, LAYOUT, 1, no_handles)
    assert cut(message, LAYOUT, 1, no_handles) is part
    assert cut(Numbers(message.values), LAYOUT, 1, no_handles) is not part


def test_rows_in_a_message_are_found_for_every_call():
    """Where they lie may change in between, and what stands for them must not be kept."""
    message, found = Beside(Handle()), []

    def stand_in(rows, is_whole):
        found.append(rows)
        return len(found)

    assert [cut(message, LAYOUT, 1, stand_in).rows for _ in range(2)] == [1, 2]
