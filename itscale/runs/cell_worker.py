"""A worker of a cluster: cells come in with a call, and what they came to goes out with its answer."""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from itscale import __version__
from itscale.allocator import keep_freed_memory
from itscale.pools import Pool
from itscale.pools.private_folder import PrivateFolder
from itscale.runs.cells import Cell
from itscale.runs.outcomes import Failure, Outcome, Progress, attempt

BEAT = 0.5
"""Seconds after which a call is answered with whatever there is, so that silence means a loss."""


@dataclass(frozen=True)
class Place:
    """What a worker is told of the run.

    Attributes:
        folder: of the run, on the driver's machine.
        mark: text of the folder's lock; a worker that reads the same sees the same folder.
        threads: of torch.
        pool: in place of the configuration's.
        home: working folder of the driver.
        path: where the driver looks for modules.
        environment: variables to set.
    """

    folder: str
    mark: str
    threads: int
    pool: Pool | None
    home: str
    path: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Begun:
    """A cell is being computed."""

    key: str


@dataclass(frozen=True)
class Moved:
    """A cell has come on."""

    key: str
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A cell has ended; None is a KeyboardInterrupt.

    Attributes:
        files: path in the run's folder -> content, where worker and driver share no folder.
    """

    key: str
    end: Outcome | Failure | None
    files: Mapping[str, bytes] = field(default_factory=dict)


Message = Begun | Moved | Ended


class CellWorker:
    """Computes cells one after the other in a thread of its own; models stay loaded from cell to cell."""

    def __init__(self, place: Place) -> None:
        os.environ.update(place.environment)
        with contextlib.suppress(OSError):  # another machine need not have it
            os.chdir(place.home)
        sys.path.extend(entry for entry in place.path if entry not in sys.path)
        keep_freed_memory()
        self._place = place
        self._cells: queue.SimpleQueue[Cell] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._compute, daemon=True).start()

    def facts(self) -> dict[str, Any]:
        """Versions and place of this worker."""
        import ray

        return {
            "node": ray.get_runtime_context().get_node_id(),
            "itscale": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "host": platform.node(),
            "pid": os.getpid(),
        }

    def exchange(self, cells: Sequence[Cell]) -> list[Message]:
        """Take cells, and return what has happened: at once when a cell has ended, else after a moment."""
        for cell in cells:
            self._cells.put(cell)
        found: list[Message] = []
        end = time.monotonic() + BEAT
        while not (found and isinstance(found[-1], Ended)):
            try:
                found.append(self._messages.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                return found
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._messages.get_nowait())
        return found

    def _compute(self) -> None:
        torch.set_num_threads(self._place.threads)
        while True:
            cell = self._cells.get()
            self._messages.put(Begun(cell.key))
            try:
                self._messages.put(self._attempt(cell))
            except KeyboardInterrupt:
                self._messages.put(Ended(cell.key, None))
            except OSError as problem:  # the folder of the answers: a full disk, say
                self._messages.put(Ended(cell.key, Failure(f"{type(problem).__name__}: {problem}")))

    def _attempt(self, cell: Cell) -> Ended:
        def moved(progress: Progress) -> None:
            self._messages.put(Moved(cell.key, progress))

        folder = Path(self._place.folder)
        if self._sees(folder):
            return Ended(cell.key, attempt(cell, folder, self._place.pool, moved))
        with PrivateFolder("cell") as private:
            own = private / "run"
            (own / "images").mkdir(parents=True)
            (own / "cells" / cell.key).mkdir(parents=True)
            end = attempt(cell, own, self._place.pool, moved)
            files = {p.relative_to(own).as_posix(): p.read_bytes() for p in own.rglob("*") if p.is_file()}
            return Ended(cell.key, end, files)

    def _sees(self, folder: Path) -> bool:
        try:
            return (folder / "lock.json").read_text(encoding="utf-8") == self._place.mark
        except OSError:
            return False
