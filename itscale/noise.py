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
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS, _MIXED = 10, 3
_PIECE = 1 << 13  # blocks per pass: the working set stays in the second-level cache
_PIECE_ELSEWHERE = 1 << 18  # on an accelerator, where a pass costs its launch
_EXPONENT = np.float64(2.0**52).view(np.uint64)
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
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(_MIXED):  # in the first rounds words are of some of the axes only
        p0, p1 = x0 * m0, x2 * m1
        x0, x2 = (p1 >> half) ^ k0 ^ x1, (p0 >> half) ^ k1 ^ x3
        x1, x3 = p1 & mask, p0 & mask
        k0, k1 = (k0 + s0) & mask, (k1 + s1) & mask
    shape = np.broadcast_shapes(*(x.shape for x in (x0, x1, x2, x3)))
    y0, y1, y2, y3 = (np.broadcast_to(x, shape).copy() for x in (x0, x1, x2, x3))
    p0, p1 = np.empty_like(y0), np.empty_like(y0)  # no more than these six have to stay in the cache
    for _ in range(_MIXED, _ROUNDS):
        np.multiply(y0, m0, out=p0)
        np.multiply(y2, m1, out=p1)
        np.right_shift(p1, half, out=y0)
        np.right_shift(p0, half, out=y2)
        y0 ^= y1
        y0 ^= k0
        y2 ^= y3
        y2 ^= k1
        np.bitwise_and(p1, mask, out=y1)
        np.bitwise_and(p0, mask, out=y3)
        k0, k1 = (k0 + s0) & mask, (k1 + s1) & mask
    return y0, y1, y2, y3


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
        pieces = self._made(purpose, at, blocks)
        if at.group.device.type == "cpu":
            found = np.concatenate([np.concatenate(words, axis=1) for _, words in pieces])
            return torch.from_numpy(found.view(np.int64))
        return torch.cat([torch.cat(words, dim=1) for _, words in pieces])

    def _made(self, purpose: int, at: Address, blocks: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """Rows and their four words of each block, where the address is."""
        if not 0 <= purpose < 256:
            raise ConfigError(f"purpose must be in [0, 256), got {purpose}")
        is_cpu = at.group.device.type == "cpu"
        return (self._on_cpu if is_cpu else self._elsewhere)(purpose, at, blocks)

    def _elsewhere(
        self, purpose: int, at: Address, blocks: int
    ) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
        """Yield rows and their four words of each block, a piece at a time."""
        block = torch.arange(blocks, dtype=torch.int64, device=at.group.device)[None]
        fields = (at.slot, at.move, at.draw * 256 + purpose, *self._key(at.group))
        for rows in _pieces(len(at), blocks, _PIECE_ELSEWHERE):
            slot, move, tail, first, second = (f[rows, None] for f in fields)
            yield rows, _philox_torch((block, slot, move, tail), (first, second))

    def _on_cpu(
        self, purpose: int, at: Address, blocks: int
    ) -> Iterator[tuple[slice, tuple[np.ndarray, ...]]]:
        """As ``_elsewhere``, without a tensor: at a few rows it is operations that cost, not numbers."""
        block = np.arange(blocks, dtype=np.uint64)[None]
        tail = (at.draw.numpy() * 256 + purpose).view(np.uint64)
        rest = (at.slot, at.move, *self._key(at.group))
        slot, move, first, second = (f.numpy().view(np.uint64) for f in rest)
        for rows in _pieces(len(at), blocks, _PIECE):
            here = tuple(f[rows, None] for f in (slot, move, tail))
            yield rows, _philox_numpy((block, *here), (first[rows, None], second[rows, None]))

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
        half = 2 * blocks
        centred = _centred_numpy if at.group.device.type == "cpu" else _centred_torch
        out = torch.empty(len(at), size, dtype=dtype, device=at.group.device)
        for rows, words in self._made(purpose, at, blocks):
            # the numbers in the middle of 2**32 cells of (0, 1); the angle's factor is rounded as one
            radius, angle = centred(words)
            radius = radius.mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
            angle = angle.mul_(2.0**-32 * (2.0 * math.pi))
            first, second = torch.cos(angle).mul_(radius), angle.sin_().mul_(radius)
            out[rows, :half] = first[:, :size]
            if size > half:
                out[rows, half:] = second[:, : size - half]
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


def _pieces(rows: int, blocks: int, size: int) -> Iterator[slice]:
    """Rows whose words are made in one pass, of ``size`` blocks."""
    step = max(1, size // max(blocks, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _centred_torch(words: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Words plus a half, in float64: those of radii, and those of angles."""
    rows, blocks = words[0].shape
    both = torch.empty(rows, 4 * blocks, dtype=torch.float64, device=words[0].device)
    for part, word in zip(both.chunk(4, dim=1), words, strict=True):
        part.copy_(word)  # to float64 in the same pass
    return tuple(both.add_(0.5).chunk(2, dim=1))  # type: ignore[return-value]


def _centred_numpy(words: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor]:
    """As ``_centred_torch``; the words are used up."""
    rows, blocks = words[0].shape
    both = np.empty((2, rows, 2, blocks))
    for i, word in enumerate(words):
        # a word in the last bits of 2**52 is that number plus the word; what is taken away leaves the half
        word |= _EXPONENT
        np.subtract(word.view(np.float64), 2.0**52 - 0.5, out=both[i // 2, :, i % 2])
    radius, angle = torch.from_numpy(both.reshape(2, rows, 2 * blocks)).unbind()
    return radius, angle
