"""What belongs to a particle and is too large for the driver: one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.pools import Held
from itscale.types import sent

_PLAIN = ("samples", "gradient", "noise", "origin", "memo", "gauge")
"""Fields of a tensor a row or None, which are joined where all parts have them."""


@dataclass(frozen=True)
class Rows(Held):
    """States and what was computed from them; the local pool's handle is the tensors themselves.

    Attributes:
        x: states (rows, *event).
        raw: network output at x, or None before a look.
        history: what a multistep solver remembers, newest first; empty after a jump in time.
        samples: decoded final samples, kept from the last scoring.
        gradient: of the reward, shaped like ``x``; with respect to ``x`` or to the denoised sample, as asked
            for at the look.
        noise: the standard normals of the move that led to ``x``, where a method asked to keep them.
        origin: the state before the last move, where weights look back at it.
        memo: (rows, k) float64, numbers that the process remembers of every row's path; None where it needs
            none.
        depth: (rows,) int64 on the host, how many tensors of the history are each row's own, newest first;
            None where all are.
        known: (rows,) bool, where the output is that of an earlier look at the same state; None is all, or
            none without an output.
        gauge: (rows,) float64, of the drift of a composition where it is fitted to the particles.
    """

    x: Tensor
    raw: Tensor | None = None
    history: tuple[Tensor, ...] = ()
    samples: Tensor | None = None
    gradient: Tensor | None = None
    noise: Tensor | None = None
    origin: Tensor | None = None
    memo: Tensor | None = None
    depth: Int64[Tensor, " rows"] | None = None
    known: Tensor | None = None
    gauge: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, index: Int64[Tensor, " m"]) -> Rows:
        """Gather rows; every field moves together."""
        depth = None if self.depth is None else self.depth[index.cpu()]
        index = sent(index, self.x.device)

        def pick(field: Tensor | None) -> Tensor | None:
            return None if field is None else field.index_select(0, index)

        return Rows(
            self.x.index_select(0, index),
            raw=pick(self.raw),
            history=tuple(h.index_select(0, index) for h in self.history),
            depth=depth,
            **{name: pick(getattr(self, name)) for name in (*_PLAIN, "known")},
        )

    @classmethod
    def join(cls, parts: list[Rows]) -> Rows:
        """Put rows after one another; what not all of them have is dropped, but for the history."""
        longest = max(len(p.history) for p in parts)

        def together(name: str) -> Tensor | None:
            fields = [getattr(p, name) for p in parts]
            return None if any(f is None for f in fields) else torch.cat(fields)

        raw, known = together("raw"), None
        if raw is not None and any(p.known is not None for p in parts):
            every = [torch.ones(len(p), dtype=torch.bool, device=p.x.device) for p in parts]
            known = torch.cat([e if p.known is None else p.known for p, e in zip(parts, every, strict=True)])
        return cls(
            torch.cat([p.x for p in parts]),
            raw=raw,
            history=tuple(torch.cat([p._remembered(i) for p in parts]) for i in range(longest)),
            depth=_same_or_none(torch.cat([p.depths for p in parts]), longest),
            known=known,
            **{name: together(name) for name in _PLAIN},
        )

    @classmethod
    def reunite(cls, parts: list[Rows]) -> Rows:
        """Put pieces of one population after one another: where outputs are known of some, they are kept."""
        found = next((p.raw for p in parts if p.raw is not None), None)
        if found is not None and any(p.raw is None for p in parts):
            parts = [p if p.raw is not None else p._not_looked_at(found) for p in parts]
        return cls.join(parts)

    def _not_looked_at(self, like: Tensor) -> Rows:
        raw = like.new_zeros(len(self), *like.shape[1:])
        return replace(self, raw=raw, known=torch.zeros(len(self), dtype=torch.bool, device=raw.device))

    def to(self, device: torch.device | str) -> Rows:
        """Move every tensor but the depths."""

        def moved(field: Any) -> Any:
            if isinstance(field, tuple):
                return tuple(t.to(device) for t in field)
            return None if field is None else field.to(device)

        every = {f.name: moved(getattr(self, f.name)) for f in fields(self) if f.name != "depth"}
        return Rows(**every, depth=self.depth)

    def only(self, names: Sequence[str]) -> Rows:
        """Drop the fields that are not named; states and histories stay."""
        keep = {"x", "history", "depth", *names}
        return replace(self, **{f.name: None for f in fields(self) if f.name not in keep})

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the fields that hold something."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)

    @property
    def is_looked_at(self) -> bool:
        """Whether the network's output is known of every row as it is."""
        return self.raw is not None and self.known is None

    @property
    def depths(self) -> Int64[Tensor, " rows"]:
        """How many of the history's tensors are each row's own, on the host."""
        return torch.full((len(self),), len(self.history)) if self.depth is None else self.depth

    def _remembered(self, i: int) -> Tensor:
        return self.history[i] if i < len(self.history) else torch.zeros_like(self.x)

    def with_(self, **changes: Tensor | tuple[Tensor, ...] | None) -> Rows:
        return replace(self, **changes)  # type: ignore[arg-type]


def _same_or_none(depth: Tensor, longest: int) -> Tensor | None:
    return None if bool((depth == longest).all()) else depth
