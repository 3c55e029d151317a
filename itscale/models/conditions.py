"""What a network is told about its rows, where that is more than one tensor, and what is done with it.

A model encodes one condition per group into a tensor ``(g, ...)`` or, where a network takes several (a
prompt's embeddings, their pooled form, a mask), into ``Conditions``. Both are gathered to rows, joined and
moved by the functions below; nothing else in the project knows which of the two it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.types import sent


@dataclass(frozen=True, eq=False)
class Conditions:
    """Tensors by name, one entry per distinct condition, and which entry each row has.

    Gathering rows moves whole numbers: particles of one prompt share its embeddings, and rows of a single
    entry see it as a view.

    Attributes:
        table: name -> (entries, ...).
        entry: (rows,) on the CPU, which entry a row has.
        against: (rows,) likewise: what guidance leads away from, where a condition says so itself.
    """

    table: Mapping[str, Tensor]
    entry: Int64[Tensor, " rows"]
    against: Int64[Tensor, " rows"] | None = None

    @classmethod
    def of(
        cls,
        entries: Sequence[Mapping[str, Tensor]],
        against: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> Conditions:
        """Stack one entry per row; the same mapping, by identity, is stored once."""
        distinct: dict[int, Mapping[str, Tensor]] = {}
        for entry in [*entries, *(against or ())]:
            distinct.setdefault(id(entry), entry)
        place = {key: i for i, key in enumerate(distinct)}
        names = next(iter(distinct.values())).keys()
        table = {name: torch.stack([e[name] for e in distinct.values()]) for name in names}

        def placed(listed: Sequence[Mapping[str, Tensor]]) -> Tensor:
            return torch.tensor([place[id(entry)] for entry in listed], dtype=torch.int64)

        return cls(table, placed(entries), None if against is None else placed(against))

    def __len__(self) -> int:
        return len(self.entry)

    def __contains__(self, name: str) -> bool:
        return name in self.table

    def __getitem__(self, name: str) -> Tensor:
        """One tensor (rows, ...): a view where all rows have one entry."""
        tensor = self.table[name]
        if len(self._distinct) == 1:
            return tensor[self._distinct[0]].expand(len(self), *tensor.shape[1:])
        if tensor.device not in self._entry_on:
            self._entry_on[tensor.device] = sent(self.entry, tensor.device)
        return tensor.index_select(0, self._entry_on[tensor.device])

    @cached_property
    def _distinct(self) -> list[int]:
        """Which entries the rows have: found once, for all the tensors."""
        return list(dict.fromkeys(self.entry.tolist()))

    @cached_property
    def _entry_on(self) -> dict[torch.device, Tensor]:
        """Which entry each row has, by where it was asked."""
        return {}

    def to(self, device: torch.device | str) -> Conditions:
        """Move the table; which row has which entry stays on the CPU, where nothing waits for it."""
        moved = {name: sent(tensor, device) for name, tensor in self.table.items()}
        return Conditions(moved, self.entry, self.against)

    @property
    def opposite(self) -> Conditions | None:
        """What guidance leads away from, row by row; None leaves it to the model."""
        return None if self.against is None else Conditions(self.table, self.against)


Encoding: TypeAlias = Tensor | Conditions


def rows_of(encoding: Encoding, index: Any) -> Encoding:
    """Gather rows by indices or a slice."""
    if isinstance(encoding, Tensor):
        return encoding[sent(index, encoding.device) if isinstance(index, Tensor) else index]
    index = index.cpu() if isinstance(index, Tensor) else index
    against = None if encoding.against is None else encoding.against[index]
    return Conditions(encoding.table, encoding.entry[index], against)


def repeated(encoding: Encoding, rows: int) -> Encoding:
    """Give every row the one condition that there is."""
    if isinstance(encoding, Tensor):
        return encoding.expand(rows, *encoding.shape[1:])
    return rows_of(encoding, torch.zeros(rows, dtype=torch.int64))


def joined(encodings: Sequence[Encoding]) -> Encoding:
    """Put rows after one another; tables that are shared stay shared."""
    first = encodings[0]
    if isinstance(first, Tensor):
        return torch.cat([e.to(first) for e in encodings if isinstance(e, Tensor)])
    parts = [e for e in encodings if isinstance(e, Conditions)]
    tables: list[Mapping[str, Tensor]] = []
    entries, start, starts = [], 0, {}
    for part in parts:
        if id(part.table) not in starts:
            starts[id(part.table)] = start
            start += len(next(iter(part.table.values())))
            tables.append(part.table)
        entries.append(part.entry + starts[id(part.table)])
    table = tables[0]
    if len(tables) > 1:
        table = {k: torch.cat([other[k].to(first.table[k]) for other in tables]) for k in first.table}
    return Conditions(table, torch.cat(entries))


def as_tensor(encoding: Encoding) -> Tensor:
    """One tensor per row, for small networks that look on: pooled embeddings, or their mean over tokens."""
    if isinstance(encoding, Tensor):
        return encoding
    name = "pooled" if "pooled" in encoding else next(iter(encoding.table))
    tensor = encoding[name].float()
    return tensor if tensor.ndim < 3 else tensor.flatten(1, -2).mean(dim=1)


def is_same(one: Encoding | None, other: Encoding | None) -> bool:
    """Whether two encodings tell rows the same."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other.to(one))
    if isinstance(one, Conditions) and isinstance(other, Conditions):
        names = one.table.keys()
        return names == other.table.keys() and all(is_same(one[name], other[name]) for name in names)
    return one is other


def check_conditions(model: Any, conditions: Sequence[Any]) -> None:
    """Raise ConfigError for a condition that a model cannot take; text encoders are not asked."""
    check = getattr(model, "check_conditions", model.encode)
    check(conditions)
