"""Cut the arguments of a verb up among shards, and put what comes back together in order."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from itscale.pools.base import PerRow, RowsHandle, Whole
from itscale.pools.placement import Owners


@dataclass(frozen=True)
class Layout:
    """Which shard holds which row.

    Attributes:
        owner: (rows,) the shard of every row.
        shards: how many there are.
    """

    owner: Owners
    shards: int

    def __len__(self) -> int:
        return len(self.owner)

    @cached_property
    def slots(self) -> list[np.ndarray]:
        """Of every shard, its rows in order."""
        return [np.flatnonzero(self.owner == shard) for shard in range(self.shards)]

    @cached_property
    def active(self) -> list[int]:
        """Shards that hold rows; the first one where there are none at all."""
        return [shard for shard, slots in enumerate(self.slots) if len(slots)] or [0]

    def expanded(self, times: int) -> Layout:
        """Where ``times`` entries for every row lie."""
        if times == 1:
            return self
        found = self._expanded.get(times)
        if found is None:
            found = self._expanded[times] = Layout(np.repeat(self.owner, times), self.shards)
        return found

    @cached_property
    def _expanded(self) -> dict[int, Layout]:
        return {}

    @cached_property
    def cut_last(self) -> dict[int, tuple[PerRow, PerRow]]:
        """Of every shard, the message that was cut last, and its part: a look and a score have the same."""
        return {}

    @cached_property
    def index(self) -> list[Tensor]:
        """As ``slots``."""
        return [torch.from_numpy(slots) for slots in self.slots]

    def per_row(self, entries: int) -> Layout:
        """The layout of as many entries, as many for every row."""
        assert entries % max(1, len(self)) == 0, f"{entries} entries for {len(self)} rows"
        return self.expanded(entries // max(1, len(self)))


StandIn: TypeAlias = Callable[[Any, bool], Any]
"""Handle, and whether all of its rows are needed everywhere -> the handle to send in its place."""


def cut(value: Any, layout: Layout, shard: int, stand_in: StandIn) -> Any:
    """The part of an argument that belongs to a shard."""
    if isinstance(value, Whole):
        return _whole(value.value, stand_in)
    if isinstance(value, RowsHandle):
        return stand_in(value, False)
    if isinstance(value, Tensor) and value.ndim:
        return value[layout.per_row(len(value)).index[shard]] if len(layout) else value
    if isinstance(value, PerRow):
        return _cut_message(value, layout, shard, stand_in)
    return value


def _cut_message(value: PerRow, layout: Layout, shard: int, stand_in: StandIn) -> Any:
    last = layout.cut_last.get(shard)
    if last is not None and last[0] is value:
        return last[1]
    part = _cut_fields(value, layout, shard, stand_in)
    if next(handles(value), None) is None:  # a stand-in is of one call
        layout.cut_last[shard] = value, part
    return part


def _whole(value: Any, stand_in: StandIn) -> Any:
    if isinstance(value, RowsHandle):
        return stand_in(value, True)
    return tuple(_whole(entry, stand_in) for entry in value) if type(value) is tuple else value


def _cut_fields(value: Any, layout: Layout, shard: int, stand_in: StandIn) -> Any:
    """Cut every field of a message, and of messages inside it."""
    parts = {}
    for name in _names(type(value)):
        inner = getattr(value, name)
        is_message = dataclasses.is_dataclass(inner) and not isinstance(inner, RowsHandle)
        parts[name] = (_cut_fields if is_message else cut)(inner, layout, shard, stand_in)
    return type(value)(**parts)


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def handles(value: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the handles in an argument, and whether all of their rows are needed everywhere."""
    if isinstance(value, Whole):
        yield from ((handle, True) for handle, _ in handles(value.value))
    elif isinstance(value, RowsHandle):
        yield value, False
    elif isinstance(value, PerRow):
        for field in dataclasses.fields(value):  # type: ignore[arg-type]
            yield from handles(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from handles(entry)


def merge(values: Sequence[Any], layout: Layout, adopt: Callable[[Sequence[Any]], Any], kind: type) -> Any:
    """Put together what the active shards returned.

    Tensors go back into the order of the rows, numbers are added up, what is None on some shards is zero
    there, and rows (of a ``kind`` of stand-in) become a handle.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    first = known[0]
    if isinstance(first, kind):
        return adopt(values)
    if isinstance(first, Tensor):
        return _in_order(values, layout)
    if isinstance(first, PerRow):
        names = [field.name for field in dataclasses.fields(first)]  # type: ignore[arg-type]
        parts = {n: merge([getattr(v, n) for v in known], layout, adopt, kind) for n in names}
        return dataclasses.replace(first, **parts)  # type: ignore[type-var]
    if isinstance(first, tuple):
        if all(isinstance(entry, str) for value in known for entry in value):
            return tuple(entry for value in known for entry in value)
        return tuple(merge(entries, layout, adopt, kind) for entries in zip(*known, strict=True))
    assert isinstance(first, int), f"{type(first).__name__} cannot be put together"
    return sum(known)


def _in_order(values: Sequence[Tensor | None], layout: Layout) -> Tensor:
    first = next(value for value in values if value is not None)
    if len(layout.active) == 1:
        return first
    shard, value = next((s, v) for s, v in zip(layout.active, values, strict=True) if v is not None)
    where = layout.expanded(len(value) // len(layout.slots[shard]))
    found = first.new_zeros(len(where), *first.shape[1:])
    for shard, value in zip(layout.active, values, strict=True):
        if value is not None:
            found[where.index[shard]] = value
    return found
