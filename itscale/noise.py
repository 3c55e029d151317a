"""Addressed random numbers: Philox4x32-10 as a pure function of where a number is used.

A draw is named by ``(seed, purpose, move, group, slot, draw)``, so it does not depend on the batch it is
made in, on the number of workers, or on how often a run was resumed. There is no generator state.

Reference:
    Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_PIECE = 1 << 13  # blocks per pass: the working set stays in the second-level cache
_PIECE_ELSEWHERE = 1 << 18  # on an accelerator, where a pass costs its launch
_REMEMBERED_ROWS, _REMEMBERED_KEYS = 512, 64


class Purpose(IntEnum):
    """What a number is used for. Two call sites never share one; values from 64 are free for users."""

    INITIAL = 0
    MOVE = 1
    RESAMPLE = 2
    ORDER = 3
    ACCEPT = 4
    MODEL = 5
    SELECT = 6
    VALUE = 7
    DIVERGENCE = 8
    PRIOR = 9
    PERMUTE = 10
    PATH = 11
    USER = 64


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Apply Philox4x32-10 to counters and keys of 32-bit words held in int64 tensors.

    Args:
        counter: four int64 tensors that broadcast together, values in [0, 2**32).
        key: two int64 tensors that broadcast against them.

    Returns:
        Four int64 tensors of random words in [0, 2**32).
    """
    if counter[0].device.type == "cpu":  # numpy has unsigned products, several times faster there
        words = _philox_numpy(
            tuple(c.numpy().view(np.uint64) for c in counter), tuple(k.numpy().view(np.uint64) for k in key)
        )
        return tuple(torch.from_numpy(w.view(np.int64)) for w in words)
    return _philox_torch(counter, key)


def _philox_numpy(counter: tuple[np.ndarray, ...], key: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    mask, half = np.uint64(_MASK), np.uint64(32)
    m0, m1 = (np.uint64(m) for m in _MULTIPLIERS)
    s0, s1 = (np.uint64(s) for s in _KEY_STEPS)
    shape = np.broadcast_shapes(*(c.shape for c in counter))
    x0, x1, x2, x3 = (np.broadcast_to(c, shape) for c in counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = x0 * m0, x2 * m1
        x0, x2 = p1 >> half, p0 >> half
        x0 ^= x1
        x0 ^= k0
        x2 ^= x3
        x2 ^= k1
        p1 &= mask
        p0 &= mask
        x1, x3 = p1, p0
        k0, k1 = (k0 + s0) & mask, (k1 + s1) & mask
    return x0, x1, x2, x3


def _philox_torch(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x0, x1, x2, x3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The int64 product wraps, but its 64 bits are those of the unsigned product and only they are read.
        # Right in eager mode alone: a compiler may assume that signed integers never wrap.
        p0, p1 = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        # what stands above 32 bits goes before the next product, and nowhere else: passes are what costs
        x0, x2 = (((p >> 32) ^ x ^ k) & _MASK for p, x, k in ((p1, x1, k0), (p0, x3, k1)))
        x1, x3 = p1, p0
        k0, k1 = k0 + _KEY_STEPS[0], k1 + _KEY_STEPS[1]
    return x0, x1 & _MASK, x2, x3 & _MASK


@dataclass(frozen=True)
class Address:
    """Where numbers are used: one entry per row.

    Attributes:
        group: absolute index of the independent run the row belongs to, (rows,) int64.
        move: the group's own move counter, (rows,) int64.
        slot: position of the particle in its group, (rows,) int64. Positional: never taken along with
            ancestors, so two children of one parent get different numbers.
        draw: children and redraws, (rows,) int64, below 2**24; 0 is the only one where there is one child.
    """

    group: Int64[Tensor, " rows"]
    move: Int64[Tensor, " rows"]
    slot: Int64[Tensor, " rows"]
    draw: Int64[Tensor, " rows"]

    def __len__(self) -> int:
        return self.group.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Address:
        return Address(self.group[rows], self.move[rows], self.slot[rows], self.draw[rows])


@dataclass(frozen=True)
class Noise:
    """Random numbers for one seed.

    Attributes:
        seed: any integer; its lowest 64 bits count.
        epoch: 0, or the number of restarts of a group that had to be drawn anew.
    """

    seed: int
    epoch: int = 0
    _keys: dict[tuple[int, ...], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def words(self, purpose: int, at: Address, blocks: int) -> Int64[Tensor, "rows words"]:
        """Return ``4 * blocks`` random 32-bit words per row, on the device of the address."""
        return torch.cat([torch.cat(words, dim=1) for _, words in self._pieces(purpose, at, blocks)])

    def _pieces(self, purpose: int, at: Address, blocks: int) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
        """Yield rows and their four words of each block, a cache-sized piece at a time."""
        if not 0 <= purpose < 256:
            raise ConfigError(f"purpose must be in [0, 256), got {purpose}")
        block = torch.arange(blocks, dtype=torch.int64, device=at.group.device)[None]
        fields = (at.slot, at.move, at.draw * 256 + purpose, *self._key(at.group))
        piece = _PIECE if at.group.device.type == "cpu" else _PIECE_ELSEWHERE
        rows_per_piece = max(1, piece // max(blocks, 1))
        for start in range(0, len(at), rows_per_piece):
            rows = slice(start, min(start + rows_per_piece, len(at)))
            slot, move, tail, first, second = (f[rows, None] for f in fields)
            yield rows, philox((block, slot, move, tail), (first, second))

    def uniform(self, purpose: int, at: Address, count: int) -> Float64[Tensor, "rows count"]:
        """Draw ``count`` float64 uniforms in [0, 1) per row, 53 bits each."""
        words = self.words(purpose, at, (count + 1) // 2).reshape(len(at), 4, -1)
        high, low = words[:, ::2], words[:, 1::2]
        value = (high >> 5).double().mul_(2.0**26).add_((low >> 6).double()).mul_(2.0**-53)
        return value.reshape(len(at), -1)[:, :count]

    def normal(self, purpose: int, at: Address, event: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Draw standard normals ``(rows, *event)``.

        Box-Muller in float64 on 32-bit uniforms, rounded to ``dtype``: values reach 6.7 in magnitude, and
        rounding hides the last-bit differences between devices.
        """
        size = math.prod(event)
        blocks = (size + 3) // 4
        out = torch.empty(len(at), size, dtype=dtype, device=at.group.device)
        for rows, words in self._pieces(purpose, at, blocks):
            uniform = torch.empty(len(words[0]), 4 * blocks, dtype=torch.float64, device=out.device)
            for part, word in zip(uniform.chunk(4, dim=1), words, strict=True):
                part.copy_(word)  # to float64 in the same pass
            radius, angle = uniform.add_(0.5).mul_(2.0**-32).chunk(2, dim=1)
            radius = radius.log_().mul_(-2.0).sqrt_()
            angle = angle.mul_(2.0 * math.pi)
            first, second = torch.cos(angle).mul_(radius), angle.sin_().mul_(radius)
            half = 2 * blocks
            out[rows, :half] = first[:, :size]
            out[rows, half:] = second[:, : max(0, size - half)]
        return out.reshape(len(at), *event)

    def _key(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Derive one key per group, so that groups are independent streams of one seed."""
        seed = self.seed & 0xFFFFFFFFFFFFFFFF
        rows = (
            tuple(group.tolist()) if group.device.type == "cpu" and len(group) <= _REMEMBERED_ROWS else None
        )
        if rows in self._keys:
            return self._keys[rows]
        zero = torch.zeros_like(group)
        words = philox(
            (group & _MASK, (group >> 32) & _MASK, zero + self.epoch, zero),
            (zero + (seed & _MASK), zero + (seed >> 32)),
        )
        if rows is not None:  # micro-batches ask for theirs at every move
            if len(self._keys) == _REMEMBERED_KEYS:
                self._keys.clear()
            self._keys[rows] = (words[0], words[1])
        return words[0], words[1]
