"""``run``: every cell of a configuration, here or in several processes, into one folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError
from itscale.pools import Pool
from itscale.runs import tasks
from itscale.runs.cells import Cell
from itscale.runs.cluster import Cluster
from itscale.runs.config import Config, load_config
from itscale.runs.events import RunStarted
from itscale.runs.executors import check_counts, choose_executor
from itscale.runs.lock import FolderLock, holder
from itscale.runs.planning import plan
from itscale.runs.recorder import Listener, Recorder
from itscale.runs.schedule import in_order
from itscale.runs.store import Store, choose_folder
from itscale.runs.tasks import Share


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        folder: where everything is.
        cells: how many the configuration has.
        rows: one mapping per finished cell, in order; see ``summary_table``.
        failed: ``cell``, ``label`` and ``error`` of those that failed.
        interrupted: it was stopped by hand; ``run(..., out=folder, resume=True)`` goes on.
        exit_code: 0 done, 1 every cell failed, 3 some cells or groups failed, 130 interrupted.
    """

    folder: Path
    cells: int
    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    interrupted: bool
    exit_code: int


def run(
    config: Config | str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    on_event: Listener | None = None,
    pool: Pool | None = None,
    workers: int | None = 1,
    threads: int | None = None,
    cluster: Cluster | None = None,
    share: Share | None = None,
) -> RunSummary:
    """Run every cell that is not done yet.

    A cell that fails is recorded and the others go on. A cell whose worker process dies is tried once more.
    Ctrl-C keeps what is written and returns.

    Args:
        config: a configuration, or what ``load_config`` takes.
        out: the folder; None makes ``outputs/<recipe>-<time>-<hash>``.
        resume: go on in ``out``, or in the newest folder of this configuration.
        on_event: called with what happens, see ``itscale.runs.events``.
        pool: where to compute, in place of the configuration's ``pool``.
        workers: cells computed at once; None is one per GPU, or per core. 1 computes them in this process;
            more start processes, each of which loads the models it needs once, so a script must call this
            below ``if __name__ == "__main__":``.
        threads: of torch in each worker; None is the cores divided by the workers, or for one worker what is
            set. Equal numbers of threads give equal bits, whatever the number of workers. On a cluster None
            is 1, and as many CPUs are set aside.
        cluster: where workers are, in place of processes of this machine.
        share: compute these cells alone, as a task of a job array whose tasks share ``out``; goes on with
            what the task had done before. The last task to end writes the run's summary.

    Raises:
        ConfigError, BudgetError: before anything runs, for settings that cannot work, a folder that holds
            something else, or one that a live process is using.
        MissingExtra: for a cluster without Ray installed here.
        ItscaleError: if a worker cannot start or finds no place; the run can be resumed.
    """
    check_counts(workers, threads)
    if not isinstance(config, Config):
        config = load_config(config)
    if cluster is not None:
        cluster.check(config.cells, workers or 1)
    plans = {planned.key: planned for planned in plan(config).cells}
    if share is not None and out is None:
        raise ConfigError("tasks of a job array share one folder; name it with --out")
    folder = choose_folder(config, out, resume)
    tell = on_event or (lambda event: None)
    with _held(folder, share):
        store = Store(folder, config, resume=resume or share is not None, share=share)
        store.write_contents(plans)
        done = store.done()
        every = in_order(config.cells)
        mine = every if share is None else every[share.number :: share.count]
        left = [cell for cell in mine if cell.key not in done]
        recorder = Recorder(store, plans, tell)
        interrupted = False
        try:
            tell(RunStarted(folder, len(mine), len(mine) - len(left)))
            executor = choose_executor(workers, threads, len(left), cluster)
            executor.execute(left, folder, pool, recorder)
        except KeyboardInterrupt:
            interrupted = True
            store.log("interrupted")
        summary = _summary(store, mine, recorder.failed, interrupted)
        if share is None:
            store.finish(_document(config, summary))
    if share is not None and len(store.done()) == len(config.cells) and not tasks.live(folder):
        with contextlib.suppress(ConfigError), FolderLock(folder):  # another task was last, too
            whole = Store(folder, config, resume=True)
            whole.finish(_document(config, _summary(whole, every, [], False)))
    return summary


def _held(folder: Path, share: Share | None) -> FolderLock:
    """Lock a run's folder, or that of a task of it.

    Raises:
        ConfigError: if the one is asked for while a process holds the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if share is None:
        if alive := tasks.live(folder):
            raise ConfigError(
                f"{folder} is in use by {len(alive)} tasks of a job array ({alive[0].name} is one); wait for "
                "them, or cancel the job"
            )
        return FolderLock(folder)
    if (process := holder(folder)) is not None:
        raise ConfigError(f"{folder} is in use by process {process}, which computes all cells; wait for it")
    own = folder / tasks.TASKS / share.name
    own.mkdir(parents=True, exist_ok=True)
    return FolderLock(own)


def _document(config: Config, summary: RunSummary) -> dict[str, Any]:
    return {
        "name": config.name,
        "identity": config.identity,
        "cells": summary.cells,
        "finished": len(summary.rows),
        "failed": summary.failed,
        "interrupted": summary.interrupted,
        "exit_code": summary.exit_code,
        "model_rows": sum(row["model_rows"] + row["pilot_rows"] for row in summary.rows),
        "seconds": sum(row["seconds"] for row in summary.rows),
    }


def _summary(
    store: Store, cells: Sequence[Cell], failed: list[dict[str, Any]], interrupted: bool
) -> RunSummary:
    done = store.done()
    places = {cell.key: cell.index for cell in cells}
    failed = sorted(failed, key=lambda failure: places[failure["cell"]])
    rows = [done[cell.key] for cell in sorted(cells, key=lambda cell: cell.index) if cell.key in done]
    if not store.config.cells:
        raise ConfigError("the configuration has no cells: its sweep is empty")
    is_partial = bool(failed) or any(row["dead_groups"] for row in rows)
    code = 130 if interrupted else (1 if not rows else 3) if is_partial else 0
    return RunSummary(store.folder, len(cells), rows, failed, interrupted, code)
