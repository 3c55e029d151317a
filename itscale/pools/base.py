"""What the engine asks of a pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Int64
from torch import Tensor


class RowsHandle(Protocol):
    """A handle to rows: tensors in the local pool, references elsewhere."""

    def __len__(self) -> int: ...

    def take(self, index: Int64[Tensor, " m"]) -> RowsHandle: ...


class OpenPool(Protocol):
    """A pool with a worker in it."""

    @property
    def device(self) -> torch.device:
        """Where rows go that come from a checkpoint."""
        ...

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Run a verb of the worker on rows; what comes back is a handle and small host tensors."""
        ...

    def join(self, parts: list[Any]) -> Any:
        """Put rows after one another."""
        ...

    def counters(self) -> dict[str, int]:
        """Counts that only the workers know: padding rows, network calls."""
        ...


class Pool(Protocol):
    """A place to run, described; ``open`` builds the worker there."""

    def open(self, factory: Callable[..., Any]) -> OpenPool:
        """Call ``factory(microbatch=, bitwise=, device=)`` where the rows will live."""
        ...
