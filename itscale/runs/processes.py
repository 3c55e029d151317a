"""Several worker processes that share out the cells of a run, and what to do when one of them dies."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from itscale.errors import ItscaleError
from itscale.pools import Pool
from itscale.runs.cells import Cell
from itscale.runs.outcomes import Failure, Outcome, Progress
from itscale.runs.recorder import Recorder
from itscale.runs.schedule import Queue
from itscale.runs.workers import Ready, Stopped, work

ATTEMPTS = 2
"""A cell whose worker dies starts once more: the other cells' memory may have been to blame."""
PATIENCE = 10.0  # seconds that a worker has for leaving
LOOK_EVERY = 1.0  # seconds; a dead worker's pipe stays open while a child of its own lives


@dataclass(frozen=True)
class Processes:
    """Spawned processes, each with torch threads of its own; a worker takes the next cell when it is free."""

    workers: int
    threads: int

    def execute(self, cells: Sequence[Cell], folder: Path, pool: Pool | None, recorder: Recorder) -> None:
        crew = _Crew(Queue(cells), recorder, (self.threads, folder, pool))
        try:
            for number in range(self.workers):
                crew.hire(number)
            while crew.workers:
                crew.listen()
        finally:
            crew.dismiss()


class _Worker:
    """This process's end of a worker."""

    def __init__(self, number: int, rest: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA and torch's threads do not survive a fork
        self.number = number
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, number, *rest), name=f"itscale-{number}")
        with _interrupts_ignored():
            self.process.start()
        theirs.close()
        self.is_ready = False
        self.is_closed = False
        self.cell: Cell | None = None

    def messages(self) -> Iterator[Any]:
        """Yield what has arrived by now; afterwards ``is_closed`` says whether more can come."""
        while not self.is_closed:
            try:
                if not self.connection.poll():
                    return
                message = self.connection.recv()
            except (EOFError, OSError):  # OSError: it died in the middle of a message
                self.is_closed = True
                return
            yield message

    def bury(self) -> None:
        """Wait for the end of the process, and see to it if something of the user's holds it up."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Crew:
    """The workers that are alive, the cells that wait, and the messages between them."""

    def __init__(self, queue: Queue, recorder: Recorder, rest: tuple[Any, ...]) -> None:
        self.queue = queue
        self.recorder = recorder
        self.rest = rest
        self.workers: dict[int, _Worker] = {}
        self.deaths: dict[str, int] = {}
        self.leaving: list[_Worker] = []

    def hire(self, number: int) -> None:
        self.workers[number] = _Worker(number, self.rest)

    def listen(self) -> None:
        """Wait for messages, take all that are there, and look for the dead."""
        wait([worker.connection for worker in self.workers.values()], LOOK_EVERY)
        for worker in list(self.workers.values()):
            is_alive = worker.process.is_alive()  # asked first: what it said before it died still counts
            for message in worker.messages():
                self._take(worker, message)
            is_gone = worker.is_closed or not is_alive
            if is_gone and worker.number in self.workers:
                self._bury(worker)

    def dismiss(self) -> None:
        """End every worker; what had arrived by now is still written down."""
        for worker in self.workers.values():
            worker.process.terminate()
        for worker in (*self.workers.values(), *self.leaving):
            worker.bury()
            for message in worker.messages():
                if isinstance(message, Outcome | Failure):
                    self._end(worker, message)
            worker.connection.close()
        self.workers.clear()

    def _take(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, Progress):
            assert worker.cell is not None
            self.recorder.moved((worker.cell, message))
        elif isinstance(message, Stopped):
            raise KeyboardInterrupt
        elif isinstance(message, Ready):
            worker.is_ready = True
            self._employ(worker)
        elif isinstance(message, Outcome | Failure):
            self._end(worker, message)
            self._employ(worker)

    def _end(self, worker: _Worker, end: Outcome | Failure) -> None:
        cell, worker.cell = worker.cell, None
        assert cell is not None
        self.recorder.ended((cell, end))

    def _employ(self, worker: _Worker) -> None:
        """Hand a free worker its next cell, or let it go."""
        worker.cell = self.queue.take(worker.number)
        try:
            if worker.cell is not None:
                self.recorder.started(worker.cell)
            worker.connection.send(worker.cell)
        except OSError:  # it died just now, which the next look finds
            return
        if worker.cell is None:
            self.leaving.append(self.workers.pop(worker.number))

    def _bury(self, worker: _Worker) -> None:
        worker.bury()
        worker.connection.close()
        del self.workers[worker.number]
        how, cell = _how_it_ended(worker.process.exitcode), worker.cell
        if not worker.is_ready:
            raise ItscaleError(
                f"a worker process {how} before it took a cell; what it printed says why. A script that "
                "asks for workers must start below: if __name__ == '__main__':"
            )
        if cell is not None:
            self.deaths[cell.key] = self.deaths.get(cell.key, 0) + 1
            if self.deaths[cell.key] < ATTEMPTS:
                self.recorder.retried(cell, f"its worker process {how}")
                self.queue.put_back(cell)
            else:
                why = f"its worker process {how}, {ATTEMPTS} times; was there memory enough for the workers?"
                self.recorder.ended((cell, Failure(f"WorkerDied: {why}")))
        if self.queue:
            self.hire(worker.number)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"ended with exit code {code}"


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let a process that starts meanwhile ignore Ctrl-C from its first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say so
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
