"""What the engine asks of a pool, and what it tells a pool about its messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Int64
from torch import Tensor


class Held(ABC):
    """Base of rows: large, and staying where they were made. Subclasses are frozen dataclasses of tensors."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: Int64[Tensor, " m"]) -> Any:
        """Gather rows."""
        ...

    @abstractmethod
    def to(self, device: Any) -> Any:
        """Move every tensor but those that belong on the host."""
        ...

    @abstractmethod
    def only(self, names: Sequence[str]) -> Any:
        """Drop the fields that are not named."""
        ...

    @property
    @abstractmethod
    def present(self) -> tuple[str, ...]:
        """Names of the fields that hold something."""
        ...

    @classmethod
    @abstractmethod
    def join(cls, parts: list[Any]) -> Any:
        """Put rows after one another; what not all of them have is dropped."""
        ...

    @classmethod
    @abstractmethod
    def reunite(cls, parts: list[Any]) -> Any:
        """Put pieces of one population after one another; what one of them has is kept."""
        ...


class RowsHandle(ABC):
    """What stands for rows that are elsewhere."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: Int64[Tensor, " m"]) -> Any:
        """Gather rows."""
        ...

    @abstractmethod
    def home(self) -> Held:
        """Return the rows themselves, on the host."""
        ...


class PerRow:
    """Base of messages whose tensors have one entry per row: they are cut up wherever rows are apart."""


@dataclass(frozen=True)
class Whole:
    """An argument that every worker needs all of, rows included."""

    value: Any


def only_rows(found: Any, verb: str) -> Any:
    """The rows that a verb has made, which were all that was expected of it."""
    if not isinstance(found, tuple):
        return found
    rows, *rest = found
    assert all(value is None for value in rest), f"{verb} says more than was expected of it"
    return rows


class OpenPool(Protocol):
    """A pool with a worker in it, or several."""

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Run a verb of the worker on rows; what comes back is a handle and small host tensors.

        Tensors and ``PerRow`` messages have as many entries as there are rows, or that many for each.
        """
        ...

    def later(self, verb: str, *args: Any, is_look: bool = False, **kwargs: Any) -> Any:
        """As ``call``, for a verb that has nothing to say but the rows that it makes: a handle to these.

        A pool may put it off until something is asked of it, and then send all at once.

        Args:
            is_look: whether the rows will have been looked at.
        """
        ...

    def join(self, parts: list[Any]) -> Any:
        """Put rows after one another."""
        ...

    def adopt(self, rows: Any) -> Any:
        """Return a handle to rows that come from elsewhere, such as a checkpoint."""
        ...

    def home(self, rows: Any) -> Any:
        """Return the rows themselves on the host."""
        ...

    def counters(self) -> dict[str, int]:
        """Counts that only the workers know: padding rows, network calls."""
        ...

    def since_last(self) -> dict[str, Any]:
        """What happened since this was called last, as plain values; empty if there is nothing to say."""
        ...

    def report(self) -> tuple[dict[str, Any], list[str]]:
        """What the pool has to say of the run: plain values by name, and warnings."""
        ...

    def close(self) -> None:
        """Give up the workers; rows are gone."""
        ...


class Pool(Protocol):
    """A place to run, described; ``open`` builds the worker there."""

    def open(self, factory: Callable[..., Any]) -> OpenPool:
        """Call ``factory(microbatch=, bitwise=, device=)`` where the rows will live."""
        ...
