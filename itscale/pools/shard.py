"""The process that holds a share of the rows, with a worker of its own."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import socket
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from itscale.allocator import keep_freed_memory
from itscale.errors import ItscaleError
from itscale.pools import wire
from itscale.pools.base import Held
from itscale.pools.lines import Answering
from itscale.pools.snapshots import read_rows, write_rows

Name: TypeAlias = tuple[int, int]
"""Of a population of rows: the act that made it, and which of its results it is."""


class StaleCall(ItscaleError):
    """A call of another epoch, or one that was done already; nothing was changed."""


class Stowed(NamedTuple):
    """Rows that stayed in a shard.

    Attributes:
        same: the argument that they are, if nothing was made.
        size: in bytes.
    """

    name: Name
    length: int
    present: tuple[str, ...]
    same: Name | None
    size: int


class Answer(NamedTuple):
    """What an act came to.

    Attributes:
        results: of its commands, up to the one that failed.
        error: what the worker raised, and its traceback.
        seconds: inside the worker.
        received: bytes of rows that came from other shards.
        notes: what a reader of the results should know.
    """

    results: tuple[Any, ...]
    error: tuple[BaseException, str] | None
    seconds: float
    counters: dict[str, int]
    received: int
    notes: tuple[str, ...]


class Command(ABC):
    """Base of what a shard can be asked to do; handles in it have become rows."""

    @abstractmethod
    def __call__(self, shard: Shard, blocks: Sequence[Any]) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Call(Command):
    """Run a verb of the worker."""

    act: int
    verb: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, shard: Shard, blocks: Sequence[Any]) -> Any:
        given = {id(rows): name for name, rows in shard.store.items()}
        done = shard.attempt(lambda: getattr(shard.worker, self.verb)(*self.args, **self.kwargs))
        count = 0

        def stow(value: Any) -> Any:
            nonlocal count
            if isinstance(value, Held):
                name, count = (self.act, count), count + 1
                shard.store[name] = value
                return Stowed(name, len(value), value.present, given.get(id(value)), size_of_rows(value))
            return tuple(stow(v) for v in value) if type(value) is tuple else value

        return stow(done)


@dataclasses.dataclass(frozen=True)
class Arrange(Command):
    """Make a population of rows that are here and rows that come from other shards.

    Attributes:
        keep: rows of the source that stay here.
        order: into those kept and then those received, block by block.
    """

    name: Name
    source: Held | None
    keep: np.ndarray
    order: np.ndarray

    def __call__(self, shard: Shard, blocks: Sequence[Any]) -> None:
        parts = []
        if self.source is not None and len(self.keep):
            parts.append(self.source.take(torch.from_numpy(self.keep)))
        for block in blocks:
            shard.received += wire.size_of(block)
            parts.append(wire.loads_apart(block).to(shard.device))
        rows = parts[0] if len(parts) == 1 else type(parts[0]).reunite(parts)
        if not np.array_equal(self.order, np.arange(len(rows))):
            rows = rows.take(torch.from_numpy(self.order))
        shard.store[self.name] = rows


@dataclasses.dataclass(frozen=True)
class Join(Command):
    """Put populations after one another, with the fields that all of them have everywhere."""

    name: Name
    parts: tuple[Held, ...]
    names: tuple[str, ...]

    def __call__(self, shard: Shard, blocks: Sequence[Any]) -> None:
        parts = [part.only(self.names) for part in self.parts]
        shard.store[self.name] = parts[0] if len(parts) == 1 else type(parts[0]).reunite(parts)


@dataclasses.dataclass(frozen=True)
class Adopt(Command):
    """Take rows that come with the call."""

    name: Name
    rows: Held

    def __call__(self, shard: Shard, blocks: Sequence[Any]) -> None:
        shard.store[self.name] = self.rows.to(shard.device)


@dataclasses.dataclass(frozen=True)
class Fetch(Command):
    """Return rows on the host."""

    rows: Held

    def __call__(self, shard: Shard, blocks: Sequence[Any]) -> Any:
        return self.rows.to("cpu")


@dataclasses.dataclass(frozen=True)
class Save(Command):
    """Write every population that is alive to this shard's file in a folder."""

    folder: str

    def __call__(self, shard: Shard, blocks: Sequence[Any]) -> None:
        write_rows(shard.file(self.folder), shard.store, shard.counters())


def _in_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method wait until the shard is free."""

    @functools.wraps(method)
    def guarded(self: Shard, *args: Any, **kwargs: Any) -> Any:
        with self._turn:
            return method(self, *args, **kwargs)

    return guarded


class Shard:
    """Rows by name, and a worker that executes verbs on them. Made into a Ray actor by the crew.

    Calls carry the epoch, which grows at every recovery, and a running number: a late or doubled call is
    refused, so that no act happens twice. They come as calls of Ray or over a line; one runs at a time.
    """

    def __init__(self, number: int, threads: int, key: bytes) -> None:
        import ray

        keep_freed_memory()
        torch.set_num_threads(threads)
        self.number = number
        self.epoch = -1
        self.acts = 0
        self.store: dict[Name, Any] = {}
        self.received = 0
        self.notes: list[str] = []
        self.modules: dict[str, Any] = {}
        self.worker: Any = None
        self.before: dict[str, int] = {}
        self._turn = threading.Lock()
        self._answering = Answering(ray.util.get_node_ip_address(), key, self._obey)

    @_in_turn
    def facts(self) -> dict[str, Any]:
        """What must be alike everywhere, and where this is; a shard at work does not answer."""
        import ray

        return {
            "versions": versions(),
            "node": ray.get_runtime_context().get_node_id(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "line": self._answering.address,
        }

    @_in_turn
    def build(
        self,
        epoch: int,
        factory: bytes,
        where: dict[str, Any],
        folder: str | None,
        keys: list[str],
        *modules: bytes,
    ) -> None:
        """Make the worker, with the rows of a snapshot or none.

        Args:
            epoch: calls of this one are taken from now on.
            factory: makes the worker; neural networks in it go by name.
            where: microbatch, bitwise, device.
            folder: of a snapshot.
            keys: names of the networks that come along.
        """
        if epoch <= self.epoch:
            raise StaleCall(f"epoch {epoch} is over; this shard is at {self.epoch}")
        self.store = {}
        known = {key: self.modules.get(key) for key in keys}
        for key, data in zip(keys, modules, strict=True):
            known[key] = known[key] or wire.loads(data)
        self.modules = known
        device = where["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.device(device)
        self.worker = wire.loads(factory, lambda name: known[name])(
            microbatch=where["microbatch"], bitwise=where["bitwise"], device=self.device
        )
        self.before = {}
        if folder is not None:
            self.store, self.before = read_rows(self.file(folder), self.device)
        self.epoch, self.acts = epoch, 0

    @_in_turn
    def act(self, message: bytes, *blocks: Any) -> bytes:
        """Obey commands, one after the other; what goes wrong inside comes back as an answer.

        Args:
            message: epoch, number, commands, and names of rows that nobody has any more. One argument in
                bytes takes Ray a third less time than four.
        """
        epoch, number, commands, dropped = wire.loads(message)
        self._expect(epoch, number)
        started = time.perf_counter()
        self.received = 0
        self.notes = []
        results, error = [], None
        try:
            # each is read when its turn comes: it may name what the one before has made
            for data in commands:
                results.append(wire.loads(data, self._find)(self, blocks))
        except Exception as problem:  # a model or a reward may raise anything
            error = (_portable(problem), traceback.format_exc())
        for name in dropped:
            self.store.pop(name, None)
        seconds = time.perf_counter() - started
        answer = Answer(tuple(results), error, seconds, self.counters(), self.received, tuple(self.notes))
        return wire.dumps(answer)

    @_in_turn
    def export(self, epoch: int, number: int, name: Name, index: np.ndarray) -> list[Any]:
        """Copy rows out, before a later call can change them."""
        self._expect(epoch, number)
        return wire.dumps_apart(self._find(name).take(torch.from_numpy(index)).to("cpu"))

    @_in_turn
    def held(self) -> int:
        """How many populations are here."""
        return len({id(rows) for rows in self.store.values()})

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Run a verb, with smaller micro-batches if memory runs out."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                if not self.worker.shrink():
                    raise
                self.notes.append(
                    f"shard {self.number} ran out of memory and went on with micro-batches of half the size: "
                    "results may differ in the last bits from those of one size; set pool.microbatch lower"
                )

    def counters(self) -> dict[str, int]:
        """What the worker has counted, and the one before it up to the snapshot."""
        found = self.worker.counters()
        return {name: count + self.before.get(name, 0) for name, count in found.items()}

    def file(self, folder: str) -> Path:
        """Where this shard's part of a snapshot is."""
        return Path(folder) / f"shard-{self.number}.safetensors"

    def _obey(self, message: bytes) -> bytes:
        """Answer a message that came over a line."""
        try:
            return self.act(message)
        except Exception as problem:  # what Ray would raise at the other end
            return wire.dumps(_portable(problem))

    def _expect(self, epoch: int, number: int) -> None:
        if epoch != self.epoch or number != self.acts + 1:
            raise StaleCall(
                f"call {number} of epoch {epoch} came to shard {self.number}, which has done {self.acts} of "
                f"epoch {self.epoch}; nothing was changed"
            )
        self.acts = number

    def _find(self, name: Name) -> Any:
        return self.store[name]


def size_of_rows(rows: Any) -> int:
    """Bytes of all tensors of rows."""
    fields = [getattr(rows, f.name) for f in dataclasses.fields(rows)]
    tensors = [t for f in fields for t in (f if isinstance(f, tuple) else (f,)) if t is not None]
    return sum(t.numel() * t.element_size() for t in tensors)


def versions() -> dict[str, str]:
    """What driver and shards must have in common."""
    import ray

    from itscale import __version__

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
        "itscale": __version__,
    }


def _portable(problem: BaseException) -> BaseException:
    """The error itself, or one that says the same if it cannot travel."""
    try:
        back = wire.loads(wire.dumps(problem))
    except Exception:  # whatever its class does when it is read again
        return ItscaleError(f"{type(problem).__name__}: {problem}")
    return problem if type(back) is type(problem) else ItscaleError(f"{type(problem).__name__}: {problem}")
