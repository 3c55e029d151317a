"""Processes that work off a list, each item with a time-out: a hanging or dying one costs its own item."""

from __future__ import annotations

import multiprocessing as mp
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from itscale.errors import ConfigError, ItscaleError


class Outcome(NamedTuple):
    """What became of one item: a value, or why there is none."""

    value: Any
    reason: str = ""


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Connection
    is_ready: bool = False
    item: int | None = None
    started: float = 0.0


@dataclass(eq=False)
class TaskPool:
    """``workers`` processes that call ``function`` on one item at a time.

    Processes start when they are first needed, and again after one had to be ended. They are started afresh,
    not forked, since a process with threads cannot be forked safely; so ``function`` must be importable, and
    a script that uses a pool keeps its own work under ``if __name__ == "__main__":``.

    Args:
        function: picklable, of one item.
        workers: processes.
        seconds: the longest that an item may take; its process is then killed and replaced.

    Raises:
        ConfigError: for numbers that make no sense.

    Example:
        >>> with TaskPool(abs, workers=1, seconds=60.0) as pool:
        ...     pool.map([-2, "x"])[0]
        Outcome(value=2, reason='')
    """

    function: Callable[[Any], Any]
    workers: int = 1
    seconds: float = 10.0
    _alive: list[_Worker] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.workers, bool) or not isinstance(self.workers, int) or self.workers < 1:
            raise ConfigError(f"workers must be a whole number >= 1, got {self.workers!r}")
        if not self.seconds > 0:
            raise ConfigError(f"seconds must be above 0, got {self.seconds!r}")

    def map(self, items: Sequence[Any]) -> list[Outcome]:
        """Work off all items; outcomes are in the order of the items.

        An exception in the function, a time-out and the death of a process leave an outcome with a reason,
        and the other items go on. A process that dies between items is replaced in silence.

        Raises:
            ItscaleError: if processes cannot start at all.
        """
        outcomes = [Outcome(None, "it was not worked off")] * len(items)
        waiting = deque(range(len(items)))
        while waiting or any(w.item is not None for w in self._alive):
            self._employ(len(waiting))
            for worker in list(self._alive):
                if worker.is_ready and worker.item is None and waiting:
                    self._hand(worker, waiting, items)
            self._collect(outcomes)
        return outcomes

    def close(self) -> None:
        """End all processes."""
        while self._alive:
            self._drop(self._alive[-1])

    def __enter__(self) -> TaskPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self.function, "workers": self.workers, "seconds": self.seconds, "_alive": []}

    def _employ(self, waiting: int) -> None:
        context = mp.get_context("spawn")
        idle = sum(w.item is None for w in self._alive)
        for _ in range(min(self.workers - len(self._alive), waiting - idle)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self.function), daemon=True)
            process.start()
            theirs.close()
            self._alive.append(_Worker(process, ours))

    def _hand(self, worker: _Worker, waiting: deque[int], items: Sequence[Any]) -> None:
        try:
            worker.pipe.send(items[waiting[0]])
        except OSError:  # it died while idle
            self._drop(worker)
        else:
            worker.item, worker.started = waiting.popleft(), time.monotonic()

    def _collect(self, outcomes: list[Outcome]) -> None:
        """Wait for the next message, death or time-out."""
        watched = [w for w in self._alive if w.item is not None or not w.is_ready]
        if not watched:
            return
        ends = [w.started + self.seconds for w in watched if w.item is not None]
        left = max(min(ends) - time.monotonic(), 0.0) if ends else None
        ready = wait([w.pipe for w in watched], timeout=left)
        for worker in watched:
            if worker.pipe in ready:
                self._receive(worker, outcomes)
            elif worker.item is not None and time.monotonic() - worker.started > self.seconds:
                outcomes[worker.item] = Outcome(None, f"it took longer than {self.seconds:g} seconds")
                self._drop(worker)

    def _receive(self, worker: _Worker, outcomes: list[Outcome]) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5.0)
            code = worker.process.exitcode
            self._drop(worker)
            if not worker.is_ready:
                raise ItscaleError(
                    f"a process of a pool ended at its start with exit code {code}; in a script, keep what "
                    'runs under if __name__ == "__main__":, and see the traceback above'
                ) from None
            assert worker.item is not None
            outcomes[worker.item] = Outcome(None, f"its process died with exit code {code}")
        else:
            if worker.is_ready:
                assert worker.item is not None
                outcomes[worker.item], worker.item = message, None
            worker.is_ready = True

    def _drop(self, worker: _Worker) -> None:
        self._alive.remove(worker)
        worker.pipe.close()
        worker.process.kill()
        worker.process.join(5.0)


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """What a process does: say that it is ready, and answer items until the pipe closes."""
    try:
        pipe.send("ready")
        while True:
            item = pipe.recv()
            try:
                outcome = Outcome(function(item))
            except Exception as error:  # whatever it is, it is this item's
                outcome = Outcome(None, traceback.format_exception_only(type(error), error)[-1].strip())
            pipe.send(outcome)
    except (EOFError, OSError, KeyboardInterrupt):
        return
