"""What a sharded pool costs on a cluster beside the network, measured where it will run."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from itscale.pools.base import PerRow
from itscale.pools.metrics import WORTH
from itscale.pools.open_ray import OpenRay
from itscale.pools.ray_pool import Ray

ROWS = 32
SIZES = {"64 KiB": 2**14, "1 MiB": 2**18}  # float32 numbers of a row


@dataclass(frozen=True)
class Overhead:
    """Milliseconds, medians.

    Attributes:
        shards: that were measured.
        call: a verb on all shards that computes nothing.
        step: a move and a look that are put off and a score, in one message, without resampling.
        moved: a resampling that moves about a fifth of 32 rows, by the size of a row, beside the step.
        start: seconds until shards answered.
    """

    shards: int
    call: float
    step: float
    moved: dict[str, float]
    start: float

    def threshold(self, share: float, size: str) -> float:
        """Forward time of a step in ms from which sharding is worth it, if ``share`` of steps resample."""
        return WORTH * (self.step + share * self.moved[size])


def measure_overhead(pool: Ray, repeats: int = 20) -> Overhead:
    """Open a pool with a worker that computes nothing, and time calls and moves.

    Raises:
        MissingExtra, ConfigError, PoolError: as ``Ray.open``.
    """
    started = time.perf_counter()
    place = pool.open(_Idle)
    start = time.perf_counter() - started
    try:
        rows = place.adopt(_rows(4))
        calls, steps = (
            statistics.median([_timed(act) for _ in range(repeats)][2:])
            for act in (lambda: place.call("nothing", rows), lambda: _step(place, rows))
        )
        moved = {name: _moving(place, numbers, repeats) for name, numbers in SIZES.items()}
    finally:
        place.close()
    return Overhead(place.shards, calls, steps, moved, start)


def _step(place: OpenRay, rows: Any) -> Any:
    """What a step of most methods asks for."""
    message = Message(torch.zeros(len(rows), 5, dtype=torch.int64))  # as many numbers as a place has
    moved = place.later("same", rows, message)
    return place.call("nothing", place.later("same", moved, message, is_look=True), message)


def _moving(place: OpenRay, numbers: int, repeats: int) -> float:
    """A gather that moves about a fifth of the rows, and the call that has to wait for it."""
    rows = place.adopt(_rows(numbers))
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(max(4, repeats // 2)):
        weights = torch.exp(torch.randn(ROWS, generator=generator))
        index = torch.multinomial(weights, ROWS, replacement=True, generator=generator).sort().values

        def act(index: torch.Tensor = index) -> Any:
            nonlocal rows
            rows = rows.take(index)
            return place.call("nothing", rows)

        found.append(_timed(act))
    plain = statistics.median(_timed(lambda: place.call("nothing", rows)) for _ in range(5))
    return max(0.0, statistics.median(found[1:]) - plain)


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def _rows(numbers: int) -> Any:
    from itscale.pools.plain_rows import PlainRows

    return PlainRows(torch.zeros(ROWS, numbers))


@dataclass(frozen=True)
class Message(PerRow):
    """Numbers of every row, (rows, k)."""

    numbers: torch.Tensor

    def __len__(self) -> int:
        return len(self.numbers)


class _Idle:
    """A worker that computes nothing."""

    def __init__(self, microbatch: int | None, bitwise: bool, device: Any) -> None:
        self.device = device

    def same(self, rows: Any, message: Message) -> Any:
        """Rows, as after a move."""
        return rows.take(torch.arange(len(rows)))

    def nothing(self, rows: Any, message: Message | None = None) -> torch.Tensor:
        """A number a row, as scores are."""
        return torch.zeros(len(rows), dtype=torch.float64)

    def counters(self) -> dict[str, int]:
        """Nothing is counted."""
        return {}

    def shrink(self) -> bool:
        """There is no micro-batch."""
        return False
