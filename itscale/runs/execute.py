"""``run``: every cell of a configuration, one after the other, into one folder."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.engine import Step
from itscale.errors import ConfigError
from itscale.pools import Pool
from itscale.runs.cells import Cell
from itscale.runs.config import Config, load_config
from itscale.runs.events import CellDone, CellStarted, Event, RunStarted, StepDone
from itscale.runs.images import save_answers
from itscale.runs.lock import FolderLock
from itscale.runs.measure import measure, sample_rows, summarise, trace_rows
from itscale.runs.planning import CellPlan, plan
from itscale.runs.store import Store, choose_folder
from itscale.sampling import sample

Listener = Callable[[Event], None]


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
) -> RunSummary:
    """Run every cell that is not done yet.

    A cell that fails is recorded and the others go on. Ctrl-C keeps what is written and returns.

    Args:
        config: a configuration, or what ``load_config`` takes.
        out: the folder; None makes ``outputs/<recipe>-<time>-<hash>``.
        resume: go on in ``out``, or in the newest folder of this configuration.
        on_event: called with what happens, see ``itscale.runs.events``.
        pool: where to compute, in place of the configuration's ``pool``.

    Raises:
        ConfigError, BudgetError: before anything runs, for settings that cannot work, a folder that holds
            something else, or one that a live process is using.
    """
    if not isinstance(config, Config):
        config = load_config(config)
    plans = plan(config).cells
    folder = choose_folder(config, out, resume)
    folder.mkdir(parents=True, exist_ok=True)
    tell = on_event or (lambda event: None)
    with FolderLock(folder):
        store = Store(folder, config, resume=resume)
        done = store.done()
        failed: list[dict[str, Any]] = []
        interrupted = False
        try:
            tell(RunStarted(folder, len(config.cells), sum(cell.key in done for cell in config.cells)))
            for cell, planned in zip(config.cells, plans, strict=True):
                if cell.key not in done:
                    _run_or_record(cell, planned, store, pool, tell, len(config.cells), failed)
        except KeyboardInterrupt:
            interrupted = True
            store.log("interrupted")
        summary = _summary(store, failed, interrupted)
        store.finish(
            {
                "name": config.name,
                "identity": config.identity,
                "cells": summary.cells,
                "finished": len(summary.rows),
                "failed": failed,
                "interrupted": interrupted,
                "exit_code": summary.exit_code,
                "model_rows": sum(row["model_rows"] + row["pilot_rows"] for row in summary.rows),
                "seconds": sum(row["seconds"] for row in summary.rows),
            }
        )
    return summary


def _run_or_record(
    cell: Cell,
    planned: CellPlan,
    store: Store,
    pool: Pool | None,
    tell: Listener,
    cells: int,
    failed: list[dict[str, Any]],
) -> None:
    place = (cell.index, cells, cell.key, cell.label)
    tell(CellStarted(*place, cell.run.steps, planned.all_rows))
    store.log(f"cell {cell.key} ({cell.label}) starts, {planned.all_rows} network rows")
    started = time.perf_counter()
    row, error = None, None
    try:
        row = _run_cell(cell, store, pool, tell, cells)
        store.log(f"cell {cell.key} done: reward {row['reward']}")
    except Exception as problem:  # whatever a model or reward raises must not cost the other cells
        error = f"{type(problem).__name__}: {problem}"
        failed.append({"cell": cell.key, "label": cell.label, "error": error})
        store.fail_cell(cell.key, {**failed[-1], "traceback": traceback.format_exc()})
        store.log(f"cell {cell.key} failed: {error}")
    tell(CellDone(*place, row, error, time.perf_counter() - started))


def _run_cell(cell: Cell, store: Store, pool: Pool | None, tell: Listener, cells: int) -> dict[str, Any]:
    def on_step(step: Step) -> None:
        store.add_trace(trace_rows(cell, step))
        place = (cell.index, cells, cell.key, cell.label)
        ess = float(step.ess.mean())
        tell(StepDone(*place, step.level, step.steps, ess, step.best_reward, step.nfe))

    result = sample(
        cell.model.load(),
        reward=cell.reward(),
        held_out=cell.reward("held_out"),
        method=cell.method,
        process=cell.process,
        solver=cell.solver,
        grid=cell.run.grid,
        steps=cell.run.steps,
        tilt=cell.run.tilt,
        condition=cell.conditions,
        guidance=cell.model.guidance,
        budget=cell.run.budget,
        groups=cell.groups,
        seed=cell.run.seed,
        pool=pool or cell.pool,
        on_step=on_step,
    )
    measured = measure(cell, result)
    files = save_answers(store.folder, cell, result, measured)
    store.add_samples(sample_rows(cell, result, measured, files))
    if cell.run.save:
        result.save(store.cell_folder(cell.key))
    row = summarise(cell, result, measured)
    ancestors = None if result.ancestors is None else result.ancestors.int().numpy()
    store.finish_cell(cell.key, row, ancestors)
    return row


def _summary(store: Store, failed: list[dict[str, Any]], interrupted: bool) -> RunSummary:
    done = store.done()
    cells = store.config.cells
    rows = [done[cell.key] for cell in cells if cell.key in done]
    if not rows and not failed and not interrupted:
        raise ConfigError("the configuration has no cells: its sweep is empty")
    is_partial = bool(failed) or any(row["dead_groups"] for row in rows)
    code = 130 if interrupted else (1 if not rows else 3) if is_partial else 0
    return RunSummary(store.folder, len(cells), rows, failed, interrupted, code)
