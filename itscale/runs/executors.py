"""Where the cells of a run are computed: in this process one by one, or in several at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from itscale.errors import ConfigError
from itscale.pools import Pool
from itscale.runs.cells import Cell
from itscale.runs.cluster import Cluster
from itscale.runs.outcomes import Progress, attempt
from itscale.runs.recorder import Recorder


class Executor(Protocol):
    """Computes cells in the order given, or nearly, and tells a recorder about each."""

    def execute(self, cells: Sequence[Cell], folder: Path, pool: Pool | None, recorder: Recorder) -> None:
        """Return when every cell has ended.

        Raises:
            KeyboardInterrupt: if it was stopped by hand; cells that had ended are recorded.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """One cell after the other, here, so that a debugger sees them.

    Attributes:
        threads: of torch; None leaves them as they are.
    """

    threads: int | None = None

    def execute(self, cells: Sequence[Cell], folder: Path, pool: Pool | None, recorder: Recorder) -> None:
        with _torch_threads(self.threads):
            for cell in cells:
                recorder.started(cell)

                def moved(progress: Progress, cell: Cell = cell) -> None:
                    recorder.moved((cell, progress))

                recorder.ended((cell, attempt(cell, folder, pool, moved)))


def choose_executor(
    workers: int | None, threads: int | None, cells: int, cluster: Cluster | None = None
) -> Executor:
    """Return the executor for a number of workers, of which no more are started than there are cells.

    Args:
        workers: processes; 1 is this one, None one per GPU or per core.
        threads: of torch in each; None is the cores divided by the workers, or for one worker what is set.
        cells: how many are left to compute.
        cluster: where the workers are, in place of this machine's processes.
    """
    if cluster is not None:
        from itscale.runs.ray_cells import RayCells

        return RayCells(cluster, workers, threads)
    workers = min(default_workers() if workers is None else workers, cells)
    if workers <= 1:
        return InProcess(threads)
    from itscale.runs.processes import Processes

    return Processes(workers, threads or max(1, cores() // workers))


def check_counts(workers: int | None, threads: int | None) -> None:
    """Raise ConfigError for a number of workers or threads below 1."""
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}: it should be at least 1")


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # honours taskset and containers' cpusets; Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """Return one worker per GPU, or per core where there is none."""
    return torch.cuda.device_count() or cores()


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
