"""The population of a particle method: small numbers on the driver, a handle to the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.engine.rows import Rows

_PER_PARTICLE = (
    "log_weights",
    "reward",
    "value",
    "scored",
    "valid",
    "level",
    "eve",
    "origin",
    "log_ratio",
)


@dataclass(frozen=True)
class Particles:
    """g independent groups of n weighted particles. Frozen: a verb of the engine returns a new one.

    Attributes:
        rows: states of the flat (g * n) batch.
        log_weights: (g, n), since the last absorption into the evidence.
        log_evidence: (g,), absorbed so far; log Z is this plus log-mean-exp of the weights.
        reward: (g, n), last valid reward; NaN before the first score.
        value: (g, n), tilt * reward of the last valid score; 0 before the first.
        scored: (g, n), level of the last scoring; -1 before the first.
        valid: (g, n), whether that scoring gave a score.
        level: (g, n), index into the time grid.
        move: (g,), the group's own counter of random acts; addresses noise.
        eve: (g, n), index of the time-0 ancestor.
        origin: (g, n), slot of the ancestor in the population of the last move.
        log_ratio: (g, n), log p - log q of moves not yet weighted.
        carry: whatever a method or potential remembers per particle, (g, n, ...).
    """

    rows: Rows
    log_weights: Float64[Tensor, "g n"]
    log_evidence: Float64[Tensor, " g"]
    reward: Float64[Tensor, "g n"]
    value: Float64[Tensor, "g n"]
    scored: Int64[Tensor, "g n"]
    valid: Bool[Tensor, "g n"]
    level: Int64[Tensor, "g n"]
    move: Int64[Tensor, " g"]
    eve: Int64[Tensor, "g n"]
    origin: Int64[Tensor, "g n"]
    log_ratio: Float64[Tensor, "g n"]
    carry: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def first(cls, rows: Rows, groups: int, n: int) -> Particles:
        """Equal weights at level 0, nothing scored."""
        zeros = torch.zeros(groups, n, dtype=torch.float64)
        count = torch.zeros(groups, n, dtype=torch.int64)
        slots = torch.arange(n).expand(groups, n)
        return cls(
            rows=rows,
            log_weights=zeros,
            log_evidence=torch.zeros(groups, dtype=torch.float64),
            reward=torch.full_like(zeros, torch.nan),
            value=zeros.clone(),
            scored=torch.full_like(count, -1),
            valid=torch.ones(groups, n, dtype=torch.bool),
            level=count,
            move=torch.zeros(groups, dtype=torch.int64),
            eve=slots,
            origin=slots,
            log_ratio=zeros.clone(),
        )

    @property
    def groups(self) -> int:
        return self.level.shape[0]

    @property
    def n(self) -> int:
        return self.level.shape[1]

    @property
    def scores(self) -> Float64[Tensor, "g n"]:
        """Rewards to choose by: those whose last scoring gave none are below all others."""
        return torch.where(self.valid, self.reward, -torch.inf).nan_to_num(nan=-torch.inf)

    @cached_property
    def one_level(self) -> int | Tensor:
        """The level of all particles, or (g * n,) where they differ."""
        numbers = self.level.numpy()
        first = numbers[0, 0]
        return int(first) if (numbers == first).all() else self.level.reshape(-1)

    def with_(self, **changes: Any) -> Particles:
        """As ``dataclasses.replace``, a tenth of its time: a step of a method makes ten of them."""
        made = object.__new__(Particles)
        made.__dict__.update(self.__dict__, **changes)
        if "level" in changes:
            made.__dict__.pop("one_level", None)
        return made

    def take(self, index: Int64[Tensor, "g m"]) -> Particles:
        """Gather particles within their groups. The only gather: no field can miss a resampling."""
        flat = (index + self.n * torch.arange(self.groups)[:, None]).reshape(-1)
        return self.with_(rows=self.rows.take(flat), **self._fields(lambda f: _gather(f, index)))

    @classmethod
    def merge(cls, populations: Sequence[Particles], index: Int64[Tensor, "g m"], rows: Rows) -> Particles:
        """Gather the driver-side fields of several populations, columns counted across them.

        What not all of them carry is dropped; evidence and groups are the first one's.
        """
        shared = set.intersection(*(set(p.carry) for p in populations))

        def together(fields: list[Tensor]) -> Tensor:
            return _gather(torch.cat(fields, 1), index)

        return replace(
            populations[0],
            rows=rows,
            move=torch.stack([p.move for p in populations]).amax(0),
            **{name: together([getattr(p, name) for p in populations]) for name in _PER_PARTICLE},
            carry={name: together([p.carry[name] for p in populations]) for name in sorted(shared)},
        )

    def repeat(self, children: int) -> dict[str, Any]:
        """Return the driver-side fields of ``children`` copies each; child c of slot i is at i * m + c."""
        if children == 1:
            return self._fields(lambda f: f)
        return self._fields(lambda f: f.repeat_interleave(children, dim=1))

    def _fields(self, change: Any) -> dict[str, Any]:
        changed = {name: change(getattr(self, name)) for name in _PER_PARTICLE}
        return {**changed, "carry": {name: change(value) for name, value in self.carry.items()}}


def _gather(values: Tensor, index: Tensor) -> Tensor:
    shape = index.reshape(*index.shape, *(1,) * (values.ndim - 2)).expand(*index.shape, *values.shape[2:])
    return values.gather(1, shape)
