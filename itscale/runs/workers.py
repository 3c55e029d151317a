"""A worker process: cells come in through a pipe, and what they came to goes out."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from itscale.allocator import keep_freed_memory
from itscale.pools import Pool
from itscale.runs.outcomes import attempt


@dataclass(frozen=True)
class Ready:
    """The worker has started and waits for a cell."""


@dataclass(frozen=True)
class Stopped:
    """The cell raised KeyboardInterrupt."""


def work(connection: Connection, number: int, threads: int, folder: Path, pool: Pool | None) -> None:
    """Compute cells until the pipe brings None or closes. Models stay loaded from cell to cell.

    Args:
        connection: brings cells; takes ``Ready`` once, and for every cell some ``Progress`` and then one
            ``Outcome``, ``Failure`` or ``Stopped``.
        number: of this worker from 0; workers are dealt out to GPUs in turn.
        threads: of torch.
        folder: of the run.
        pool: in place of the configuration's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # stdout belongs to the results, which only the first process prints
    os.dup2(2, 1)  # libraries in C do not ask Python
    torch.set_num_threads(threads)
    keep_freed_memory()
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())
    connection.send(Ready())
    while True:
        try:
            cell = connection.recv()
        except EOFError:
            return
        if cell is None:
            return
        try:
            connection.send(attempt(cell, folder, pool, connection.send))
        except KeyboardInterrupt:
            connection.send(Stopped())


def _end_with_parent() -> None:
    """Leave at once when the first process is gone: nobody would write down what comes out."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
