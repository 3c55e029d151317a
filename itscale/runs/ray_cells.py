"""Whole cells on the workers of a Ray cluster, and what to do when a worker or a machine is lost."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itscale import __version__
from itscale.errors import PoolError
from itscale.pools import Pool
from itscale.pools.session import check_head, connect, disconnect, load_ray
from itscale.runs.cell_worker import Begun, CellWorker, Ended, Message, Moved, Place
from itscale.runs.cells import Cell
from itscale.runs.cluster import Cluster
from itscale.runs.lock import NAME as LOCK
from itscale.runs.outcomes import Failure, Outcome, Progress
from itscale.runs.recorder import Recorder
from itscale.runs.schedule import Queue

ATTEMPTS = 3
"""Workers that a cell may take with it; machines that are lost do not count."""
STARTS = 3
"""Workers in a row that may die before they are ready."""
LOOK_EVERY = 1.0  # seconds
SHORT = 1.0  # seconds; behind a cell that takes less, the next one waits at the worker already


@dataclass(frozen=True)
class RayCells:
    """Actors of a Ray cluster; each takes the next cell when it is free, of the model that it has loaded.

    Attributes:
        cluster: what is asked of it.
        workers: how many; None is one per GPU of the cluster, or without any one per ``threads`` of its CPUs.
        threads: of torch in each, for which the cluster sets CPUs aside; None is 1.
    """

    cluster: Cluster
    workers: int | None
    threads: int | None

    def execute(self, cells: Sequence[Cell], folder: Path, pool: Pool | None, recorder: Recorder) -> None:
        if not cells:
            return
        is_guest = load_ray().is_initialized()
        threads = self.threads or 1
        ray = connect(
            self.cluster.address,
            cpus=(self.workers or 1) * threads,
            gpus=_gpus_here(),
            object_store=self.cluster.object_store,
            resources={},
        )
        try:
            total = ray.cluster_resources()
            gpus = self.cluster.gpus
            if gpus is None:
                gpus = 1.0 if total.get("GPU") else 0.0
            count = self.workers or max(
                1, int(total["GPU"] / gpus if gpus else total.get("CPU", 1) / threads)
            )
            place = Place(
                str(folder.resolve()),
                (folder / LOCK).read_text(encoding="utf-8"),
                threads,
                pool,
                os.getcwd(),
                tuple(sys.path),
                {name: text for name, text in os.environ.items() if name.startswith("ITSCALE_")},
            )
            bundle = {"num_cpus": threads, "num_gpus": gpus}
            crew = _Crew(ray, self.cluster, bundle, place, Queue(cells), recorder, folder)
            try:
                crew.run(min(count, len(cells)))
            finally:
                crew.dismiss()
        finally:
            if not is_guest:
                disconnect()


@dataclass
class _Worker:
    """This process's end of a worker.

    Attributes:
        number: from 0.
        actor: its handle.
        answer: of the call under way.
        since: when that call was made.
        node: machine it is on; None until it is ready.
        cells: given to it and not ended, in order.
        begun: key of the one that it computes -> when that was heard of.
        is_quick: its last cell was short.
    """

    number: int
    actor: Any
    answer: Any
    since: float
    node: str | None = None
    cells: list[Cell] = field(default_factory=list)
    begun: dict[str, float] = field(default_factory=dict)
    is_quick: bool = False


class _Crew:
    """The workers that are alive or on their way, the cells that wait, and the messages between them."""

    def __init__(
        self,
        ray: Any,
        cluster: Cluster,
        bundle: dict[str, float],
        place: Place,
        queue: Queue,
        recorder: Recorder,
        folder: Path,
    ) -> None:
        self.ray = ray
        self.cluster = cluster
        self.bundle = bundle
        self.place = place
        self.queue = queue
        self.recorder = recorder
        self.folder = folder
        self.workers: dict[int, _Worker] = {}
        self.deaths: dict[str, list[str | None]] = {}  # cell's key -> machines on which its workers died
        self.moved: list[tuple[Cell, Progress]] = []
        self.ended: list[tuple[Cell, Outcome | Failure]] = []
        self.failed_starts = 0
        self.torch_versions: set[str] = set()
        self.make = ray.remote(CellWorker)

    def run(self, count: int) -> None:
        """Return when every cell has ended."""
        for number in range(count):
            self._hire(number)
        while self.queue or any(worker.cells for worker in self.workers.values()):
            by_answer = {worker.answer: worker for worker in self.workers.values()}
            ready, _ = self.ray.wait(list(by_answer), timeout=LOOK_EVERY)
            if len(by_answer) > 1 and ready:
                ready, _ = self.ray.wait(list(by_answer), num_returns=len(by_answer), timeout=0)
            for answer in ready:
                self._hear(by_answer[answer])
            self._look_for_the_silent()
            self._write()
            check_head()

    def dismiss(self) -> None:
        """End every worker; what had arrived by now is still written down."""
        for worker in self.workers.values() if self.ray.is_initialized() else ():
            try:
                ready, _ = self.ray.wait([worker.answer], timeout=0)
                for message in self.ray.get(ready[0]) if ready and worker.node else ():
                    if isinstance(message, Ended):
                        self._end(worker, message)
            except (self.ray.exceptions.RayError, ConnectionError):
                continue
            finally:
                self._kill(worker)
        self.workers.clear()
        self._write()

    def _hire(self, number: int) -> None:
        actor = self.make.options(**self.bundle, max_restarts=0, max_task_retries=0).remote(self.place)
        self.workers[number] = _Worker(number, actor, actor.facts.remote(), time.monotonic())

    def _hear(self, worker: _Worker) -> None:
        """Take an answer, and give the worker its next cells or let it go."""
        try:
            answer = self.ray.get(worker.answer)
        except (self.ray.exceptions.RayError, ConnectionError) as error:
            self._bury(worker, error)
            return
        if worker.node is None:
            self._welcome(worker, answer)
        else:
            for message in answer:
                self._take(worker, message)
        given = []
        while len(worker.cells) < (2 if worker.is_quick else 1):
            cell = self.queue.take(worker.number)
            if cell is None:
                break
            given.append(cell)
            worker.cells.append(cell)
        if worker.cells:
            worker.answer, worker.since = worker.actor.exchange.remote(given), time.monotonic()
        else:
            self._kill(self.workers.pop(worker.number))

    def _welcome(self, worker: _Worker, facts: dict[str, Any]) -> None:
        import torch

        self.failed_starts = 0
        worker.node = facts["node"]
        if facts["itscale"] != __version__:
            raise PoolError(
                f"the worker on {facts['host']} runs itscale {facts['itscale']}, and this program "
                f"{__version__}, which may give other numbers; install the same version on all machines"
            )
        if facts["torch"] != torch.__version__ and facts["torch"] not in self.torch_versions:
            self.torch_versions.add(facts["torch"])
            self.recorder.store.log(
                f"the worker on {facts['host']} runs torch {facts['torch']}, and this program "
                f"{torch.__version__}: last digits of results may differ"
            )

    def _take(self, worker: _Worker, message: Message) -> None:
        cell = next(cell for cell in worker.cells if cell.key == message.key)
        if isinstance(message, Begun):
            self._begin(worker, cell)
        elif isinstance(message, Moved):
            self.moved.append((cell, message.progress))
        elif message.end is None:
            raise KeyboardInterrupt
        else:
            self._end(worker, message)

    def _begin(self, worker: _Worker, cell: Cell) -> None:
        if cell.key not in worker.begun:
            worker.begun[cell.key] = time.monotonic()
            self.recorder.started(cell)

    def _end(self, worker: _Worker, message: Ended) -> None:
        cell = next(cell for cell in worker.cells if cell.key == message.key)
        worker.cells.remove(cell)
        self._begin(worker, cell)
        worker.is_quick = time.monotonic() - worker.begun.pop(cell.key) < SHORT
        if message.end is None:
            return
        for name, content in message.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.ended.append((cell, message.end))

    def _write(self) -> None:
        """Write down what has been heard: the more cells end at once, the less each costs."""
        moved, self.moved = self.moved, []
        ended, self.ended = self.ended, []
        if moved:
            self.recorder.moved(*moved)
        if ended:
            self.recorder.ended(*ended)

    def _look_for_the_silent(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers.values()):
            if worker.node is not None and now - worker.since > self.cluster.deadline:
                self._bury(worker, None)
        if not self.workers or any(worker.node for worker in self.workers.values()):
            return  # the others come when there is room, which an autoscaler may still make
        if all(now - worker.since > self.cluster.start_timeout for worker in self.workers.values()):
            raise PoolError(self._no_room())

    def _bury(self, worker: _Worker, error: Exception | None) -> None:
        """A worker is lost: its cells go to others, and another takes its place."""
        self._write()
        del self.workers[worker.number]
        self._kill(worker)
        how = f"did not answer for {self.cluster.deadline:g} s" if error is None else _how_it_ended(error)
        if worker.node is None:
            self._count_failed_start(error, how)
        if worker.cells:
            self._send_back(worker, how)
        if self.queue:
            self._hire(worker.number)

    def _count_failed_start(self, error: Exception | None, how: str) -> None:
        self.failed_starts += 1
        cause = str(error)
        if "ModuleNotFoundError" in cause or "ImportError" in cause:
            missing = next(line for line in reversed(cause.splitlines()) if "Error" in line).strip()
            raise PoolError(
                f"a worker cannot start in the cluster's Python: {missing}; install itscale {__version__} "
                "and what your configuration imports on all machines"
            )
        if self.failed_starts >= STARTS:
            raise PoolError(f"a worker {how} before it was ready, {STARTS} times; Ray's logs say why")

    def _send_back(self, worker: _Worker, how: str) -> None:
        first, *others = worker.cells
        for cell in reversed(others):
            if cell.key in worker.begun:
                self.recorder.retried(cell, f"its worker {how}")
            self.queue.put_back(cell)
        self._begin(worker, first)
        if not self._is_alive(worker.node):
            how = f"was on a machine that is lost ({how})"
        self.deaths.setdefault(first.key, []).append(worker.node)
        # Ray may hear of a lost machine long after its workers fell silent: ask it anew of every death
        if sum(map(self._is_alive, self.deaths[first.key])) < ATTEMPTS:
            self.recorder.retried(first, f"its worker {how}")
            self.queue.put_back(first)
        else:
            why = f"its worker {how}, {ATTEMPTS} times; was there memory enough for the workers?"
            self.recorder.ended((first, Failure(f"WorkerDied: {why}")))

    def _is_alive(self, node: str | None) -> bool:
        return any(found["NodeID"] == node and found["Alive"] for found in self.ray.nodes())

    def _kill(self, worker: _Worker) -> None:
        try:
            self.ray.kill(worker.actor)
        except (self.ray.exceptions.RayError, ValueError, ConnectionError):
            return

    def _no_room(self) -> str:
        asked = f"{self.bundle['num_cpus']:g} CPUs and {self.bundle['num_gpus']:g} GPUs"
        nodes = [
            f"{n['NodeManagerHostname']}: {n['Resources'].get('CPU', 0):g} CPUs, "
            f"{n['Resources'].get('GPU', 0):g} GPUs"
            for n in self.ray.nodes()
            if n["Alive"]
        ]
        free = self.ray.available_resources()
        return (
            f"no worker with {asked} found a place in {self.cluster.start_timeout:g} s; the cluster has "
            f"{', '.join(nodes) or 'no machine'}, of which {free.get('CPU', 0):g} CPUs and "
            f"{free.get('GPU', 0):g} GPUs are free. "
            "Lower --threads or --gpus, wait for other jobs, or let it scale up and go on with --resume"
        )


def _gpus_here() -> float:
    import torch

    return float(torch.cuda.device_count())


def _how_it_ended(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "exit" in line.lower() or "unexpectedly" in line), "")
    return f"was lost ({type(error).__name__}{': ' + told if told else ''})"
