"""Writes down what happens to the cells of a run, and tells whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from itscale.runs.cells import Cell
from itscale.runs.events import CellDone, CellRetried, CellStarted, Event, StepDone
from itscale.runs.outcomes import Failure, Outcome, Progress
from itscale.runs.planning import CellPlan
from itscale.runs.store import Store

Listener = Callable[[Event], None]


class Recorder:
    """The only writer of the files that all cells share, however many processes compute them.

    Attributes:
        failed: ``cell``, ``label`` and ``error`` of those that failed.
    """

    def __init__(self, store: Store, plans: Mapping[str, CellPlan], tell: Listener) -> None:
        self.store = store
        self.plans = plans
        self.tell = tell
        self.failed: list[dict[str, Any]] = []
        self._started: dict[str, float] = {}

    def started(self, cell: Cell) -> None:
        rows = self.plans[cell.key].all_rows
        self._started[cell.key] = time.perf_counter()
        self.tell(CellStarted(*self._place(cell), cell.steps, rows))
        self.store.log(f"cell {cell.key} ({cell.label}) starts, {rows} network rows")

    def moved(self, *moves: tuple[Cell, Progress]) -> None:
        """Cells have come on."""
        self.store.add_trace([row for _, progress in moves for row in progress.rows])
        shards = [{"cell": cell.key, "level": p.level, **p.pool} for cell, p in moves if p.pool]
        if shards:
            self.store.add_shards(shards)
        for cell, p in moves:
            self.tell(StepDone(*self._place(cell), p.level, p.steps, p.ess, p.best, p.nfe))

    def retried(self, cell: Cell, why: str) -> None:
        """A cell will start again from nothing."""
        self.store.forget(cell.key)
        self.store.log(f"cell {cell.key} ({cell.label}) is tried again: {why}")
        self.tell(CellRetried(*self._place(cell), why))

    def ended(self, *ends: tuple[Cell, Outcome | Failure]) -> None:
        """Cells have ended; many at once cost little more than one."""
        finished = [(cell, end) for cell, end in ends if isinstance(end, Outcome)]
        self.store.add_samples([row for _, end in finished for row in end.samples])
        if finished:
            self.store.finish_cells([(cell.key, end.row, end.ancestors) for cell, end in finished])
        for cell, end in ends:
            row, error = None, None
            if isinstance(end, Outcome):
                row = end.row
                self.store.log(f"cell {cell.key} done: reward {row['reward']}")
            else:
                error = end.error
                self.failed.append({"cell": cell.key, "label": cell.label, "error": error})
                self.store.fail_cell(cell.key, {**self.failed[-1], "traceback": end.traceback})
                self.store.log(f"cell {cell.key} failed: {error}")
            seconds = time.perf_counter() - self._started[cell.key]
            self.tell(CellDone(*self._place(cell), row, error, seconds))

    def _place(self, cell: Cell) -> tuple[int, int, str, str]:
        return cell.index, len(self.store.config.cells), cell.key, cell.label
