"""This process: rows are plain tensors, a call is a call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from itscale.errors import ConfigError
from itscale.pools.base import Held, Whole, only_rows

log = logging.getLogger(__name__)
LARGEST = 256
"""Model rows that ``microbatch="auto"`` starts from."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text


@dataclass(frozen=True)
class Local:
    """One process, one device.

    Attributes:
        microbatch: model rows per network call (guidance costs two a particle); None sizes it by the state:
            128 for a small image, 4096 for a vector. ``"auto"`` starts at 256 and so finds the largest power
            of two that fits: where memory runs out, whatever the setting, the micro-batch is halved and the
            step is made again with the same numbers; a warning of the result says so.
        bitwise: pad every network call to ``microbatch``, so that equal seeds give equal bits whatever is
            run together: groups at once or one by one, rows in any order. Gradients go backwards one row at
            a time then, and a reward that is a network must itself give equal bits in any batch.
        device: ``"cpu"``, ``"cuda"``, ...; None takes CUDA when there is one.
        states: ``"cpu"`` keeps states, network outputs and histories in CPU memory, and brings a micro-batch
            at a time to the device: many particles of a large model on a small card.
    """

    microbatch: int | Literal["auto"] | None = None
    bitwise: bool = False
    device: str | None = None
    states: Literal["device", "cpu"] = "device"

    def __post_init__(self) -> None:
        size = self.microbatch
        whole = isinstance(size, int) and not isinstance(size, bool) and size >= 1
        if size is not None and size != "auto" and not whole:
            raise ConfigError(f"pool.microbatch must be a whole number >= 1 or 'auto', got {size!r}")
        if size == "auto" and self.bitwise:
            raise ConfigError(
                "pool.microbatch='auto' depends on the machine, and bitwise must not; give a number"
            )
        if self.states not in ("device", "cpu"):
            raise ConfigError(f"pool.states must be 'device' or 'cpu', got {self.states!r}")

    def open(self, factory: Callable[..., Any]) -> OpenLocal:
        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        held = torch.device("cpu") if self.states == "cpu" else device
        size = LARGEST if self.microbatch == "auto" else self.microbatch
        return OpenLocal(factory(microbatch=size, bitwise=self.bitwise, device=held, compute=device))


@dataclass(frozen=True)
class OpenLocal:
    worker: Any
    remarks: list[str] = field(default_factory=list)
    """What the user should know of how the run went."""

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Run a verb; where memory runs out, again in halves."""
        bare = [_bare(value) for value in args]
        named = {name: _bare(value) for name, value in kwargs.items()}
        while True:
            try:
                return getattr(self.worker, verb)(*bare, **named)
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.worker.chunk == 1 or self.worker.bitwise:
                    raise
            self._halve()  # outside of the handler, which would keep the tensors of the failed try

    def later(self, verb: str, *args: Any, is_look: bool = False, **kwargs: Any) -> Any:
        """Run a verb at once, and return its rows."""
        return only_rows(self.call(verb, *args, **kwargs), verb)

    def _halve(self) -> None:
        self.worker.chunk //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rows = self.worker.chunk * self.worker.process.model.rows_per_look
        remark = f"memory ran out: from then on {rows} model rows a call; pool.microbatch={rows} starts there"
        self.remarks[:] = [remark]
        log.warning(remark)

    def join(self, parts: list[Any]) -> Any:
        return type(parts[0]).join(parts)

    def adopt(self, rows: Held) -> Held:
        return rows.to(self.worker.device)

    def home(self, rows: Held) -> Held:
        return rows.to("cpu")

    def counters(self) -> dict[str, int]:
        return self.worker.counters()

    def since_last(self) -> dict[str, Any]:
        return {}

    def report(self) -> tuple[dict[str, Any], list[str]]:
        return {}, list(self.remarks)

    def close(self) -> None:
        pass


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Whole) else value
