"""What the worker's verbs stand on: micro-batches, network calls, what rewards may ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.engine.messages import Place
from itscale.engine.rows import Rows
from itscale.models.conditions import joined, rows_of
from itscale.noise import Address, Noise
from itscale.process import (
    ContinuousProcess,
    Evaluation,
)
from itscale.scoring import Reward
from itscale.solvers import Kernel
from itscale.types import Time, expand_over_event, sent

Field = TypeVar("Field", Tensor, Address)


@dataclass
class WorkerBase:
    """The model and its surroundings, where the rows live. See `Worker` for the attributes."""

    process: ContinuousProcess
    kernel: Kernel
    times: Float64[Tensor, " levels"]
    noise: Noise
    reward: Reward | None
    held_out: Reward | None
    conditions: Sequence[Any]
    dtype: torch.dtype
    microbatch: int | None = None
    bitwise: bool = False
    device: torch.device | str = "cpu"
    origin: Tensor | None = None
    compute: torch.device | str | None = None

    def __post_init__(self) -> None:
        self.compute = torch.device(self.compute or self.device)
        # also to the CPU: a network that an earlier run took to a GPU is still there
        self.process = replace(self.process, model=self.process.model.to(self.compute))
        model = self.process.model
        encoded = model.encode(self.conditions)
        self.encoded = None if encoded is None else encoded.to(self.compute)
        microbatch = self.microbatch or _default_microbatch(model.event_shape)
        self.chunk = max(1, microbatch // model.rows_per_look)
        self._times = self.times.unbind()  # a step asks for its time again and again
        self.padding_rows = 0
        self.network_calls = 0

    def _begin(self, unit: Tensor, group: Tensor) -> Tensor:
        """The state at the first level of unit noise, around what its group starts from."""
        noisiest = float(self.times[0])
        x = self.process.begin(unit, noisiest)
        if self.origin is None:
            return x
        around = self.origin.to(x.device, x.dtype).index_select(0, sent(group, x.device))
        return torch.add(x, around, alpha=float(self.process.interpolant.alpha(noisiest)))

    def _time(self, level: int | Tensor) -> Time:
        """The time of a level ``()``, or of one per row."""
        return self._times[level] if isinstance(level, int) else self.times[level]

    def counters(self) -> dict[str, int]:
        """Counts that only the worker knows."""
        return {"padding_rows": self.padding_rows, "network_calls": self.network_calls}

    def shrink(self) -> bool:
        """Halve the micro-batch, after memory has run out; False if it is one row already."""
        if self.chunk == 1:
            return False
        self.chunk = self.chunk // 2
        return True

    def _evaluation(self, rows: Rows, level: int | Tensor, part: Any) -> Evaluation:
        """Read what a look has left with a part of the rows, whose level is given."""
        memo = None if rows.memo is None else rows.memo[part]
        here = self.process.evaluation(
            cut(rows.x, part), self._time(level), cut(present(rows.raw), part), memo
        )
        return here if rows.gauge is None else replace(here, fitted=rows.gauge[part])  # type: ignore[call-arg]

    def _evaluate(self, x: Tensor, level: int | float | Tensor, group: Tensor) -> Evaluation:
        """Call the network once on at most one micro-batch, at levels or at times between them (floats)."""
        condition = None if self.encoded is None else rows_of(self.encoded, group)
        if isinstance(level, float):
            time = torch.tensor(level, dtype=torch.float64)
        elif isinstance(level, Tensor) and level.is_floating_point():
            time = level
        else:
            time = self._time(level)
        real = x.shape[0]
        missing = self.chunk - real if self.bitwise else 0
        self.network_calls += 1
        if missing <= 0 or x.requires_grad:  # rows go backwards one by one where bits count
            return self._at_model(x, time, condition)
        self.padding_rows += missing * self.process.model.rows_per_look
        fill = torch.zeros(missing, dtype=torch.int64, device=x.device)
        padded = torch.cat([x, x[fill]])
        time_rows = time if time.ndim == 0 else torch.cat([time, time[fill.cpu()]])
        condition = None if condition is None else joined([condition, rows_of(condition, fill)])
        done = self._at_model(padded, time_rows, condition)
        return self.process.evaluation(x, time, done.raw[:real])

    def _at_model(self, x: Tensor, time: Tensor, condition: Any) -> Evaluation:
        """Ask the model, where it lives."""
        if torch.device(self.device) == self.compute:
            return self.process.evaluate(x, time, condition)
        found = self.process.evaluate(x.to(self.compute), time, condition)
        return self.process.evaluation(x, time, found.raw.to(x.device))

    def decode(self, states: Tensor) -> Tensor:
        """Samples of states, made where the model lives."""
        return self.process.model.decode(states.to(self.compute))

    def _outlook(self, here: Evaluation, level: int | Tensor) -> Tensor:
        """The sample that a reward judges: what is expected, and at the last look what the jump will make."""
        if not self.process.has_rates:
            return here.denoised
        is_last = torch.as_tensor(level) >= self.times.shape[0] - 2
        if bool(is_last.all()):
            return here.denoised
        return torch.where(expand_over_event(is_last, here.x).bool(), here.denoised, here.expected)

    def _decode(self, rows: Rows, level: int | Tensor, part: Any) -> Tensor:
        """Samples of a part of the rows, whose level is given."""
        if isinstance(level, int) and level == self.times.shape[0] - 1:
            return self.decode(rows.x[part])
        assert rows.raw is not None, "score needs a look first"
        here = self._evaluation(rows, level, part)
        return self.decode(self._outlook(here, level))

    def _shown(self, samples: Tensor) -> Any:
        """What a reward sees of samples."""
        return samples

    def _raw_reward(self, denoised: Tensor, level: int | Tensor, at: Place, part: Any) -> Tensor:
        assert self.reward is not None
        return self.reward.raw(self.decode(denoised), self._facts(level, at, part))

    def _facts(self, level: int | Tensor, at: Place, part: Any) -> dict[str, Any]:
        """What a reward may ask for at a part of the rows, whose level is given."""
        conditions = [self.conditions[i] for i in at.group[part].tolist()]
        return {
            "step": level,
            "t": self._time(level),
            "is_final": level == self.times.shape[0] - 1,
            "conditions": conditions,
        }

    def _address(self, at: Place, rows: slice | Tensor) -> Address:
        a = cut(at.address, rows)
        if torch.device(self.device).type == "cpu":
            return a
        return Address(*(sent(f, self.device) for f in (a.group, a.move, a.slot, a.draw)))

    @property
    def _backward_chunk(self) -> int:
        """Rows that go backwards together: matrix products on the way back round by a row's position."""
        return 1 if self.bitwise else self.chunk

    def _chunks(self, total: int, size: int | None = None) -> Iterator[slice]:
        size = size or self.chunk
        for start in range(0, total, size):
            yield slice(start, min(start + size, total))

    def _parts(
        self, level: int | Tensor, total: int, size: int | None = None
    ) -> Iterator[tuple[Any, int | Tensor]]:
        """Yield parts of the rows with their level, one per row where rows differ.

        Where bits count a part has one level: factors that differ by row round in another way.
        """
        if isinstance(level, int) or not self.bitwise:
            yield from ((part, level_of(level, part)) for part in self._chunks(total, size))
            return
        for k in level.unique().tolist():
            yield from ((part, k) for part in (level == k).nonzero()[:, 0].split(size or self.chunk))


def level_of(level: int | Tensor, part: slice) -> int | Tensor:
    return level if isinstance(level, int) else level[part]


def cut(field: Field, part: slice | Tensor) -> Field:
    """A part of what has an entry per row; itself where that is all of it."""
    return field if isinstance(part, slice) and part == slice(0, len(field)) else field[part]


def first_of(part: slice | Tensor, count: int) -> slice | Tensor:
    """The first rows of a part."""
    return slice(part.start, part.start + count) if isinstance(part, slice) else part[:count]


def present(raw: Tensor | None) -> Tensor:
    assert raw is not None, "a look comes first"
    return raw


def room_for(rows: int, like: Tensor, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """An empty tensor for what is found for a part of the rows, for all of them."""
    return torch.empty(rows, *like.shape[1:], dtype=dtype, device=device or like.device)


def _default_microbatch(event: tuple[int, ...]) -> int:
    """A power of two, so that a micro-batch of states is about half a megabyte: 128 for 28 x 28 pixels."""
    rows = max(32, min(4096, 2**17 // max(1, math.prod(event))))
    return 1 << (rows.bit_length() - 1)
