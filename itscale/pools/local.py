"""This process: rows are plain tensors, a call is a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from itscale.errors import ConfigError


@dataclass(frozen=True)
class Local:
    """One process, one device.

    Attributes:
        microbatch: model rows per network call (guidance costs two a particle); None sizes it by the state:
            128 for a small image, 4096 for a vector.
        bitwise: pad every network call to ``microbatch``, so that equal seeds give equal bits whatever is
            run together: groups at once or one by one, rows in any order. Gradients go backwards one row at
            a time then, and a reward that is a network must itself give equal bits in any batch.
        device: ``"cpu"``, ``"cuda"``, ...; None takes CUDA when there is one.
    """

    microbatch: int | None = None
    bitwise: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        if self.microbatch is not None and (not isinstance(self.microbatch, int) or self.microbatch < 1):
            raise ConfigError(f"pool.microbatch must be a whole number >= 1, got {self.microbatch!r}")

    def open(self, factory: Callable[..., Any]) -> OpenLocal:
        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return OpenLocal(factory(microbatch=self.microbatch, bitwise=self.bitwise, device=device))


@dataclass(frozen=True)
class OpenLocal:
    worker: Any

    @property
    def device(self) -> torch.device:
        return torch.device(self.worker.device)

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.worker, verb)(*args, **kwargs)

    def join(self, parts: list[Any]) -> Any:
        return type(parts[0]).join(parts)

    def counters(self) -> dict[str, int]:
        return {"padding_rows": self.worker.padding_rows, "network_calls": self.worker.network_calls}
