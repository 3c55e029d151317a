"""How far a run is: a bar where somebody looks at a terminal, else one line for every tenth."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Protocol

from rich.progress import BarColumn, Progress, TextColumn

from itscale.cli.output import as_duration, console, note
from itscale.runs.events import CellDone, CellRetried, CellStarted, Event, RunStarted, StepDone

LINES = 10


class Display(Protocol):
    """Shows a share of the work between 0 and 1, and a text."""

    def show(self, share: float, text: str) -> None: ...

    def close(self) -> None: ...


class Reporter:
    """Listens to the events of a run; every cell counts the same.

    Example:
        with Reporter() as listen:
            runs.run(config, on_event=listen)
    """

    def __init__(self, display: Display | None = None) -> None:
        self.display = display or (Bar() if sys.stderr.isatty() else Lines())
        self.started = time.perf_counter()
        self.cells, self.finished, self.found_done = 1, 0, 0
        self.has_begun = False
        self.shares: dict[int, float] = {}  # index of a cell that is running -> how much of it is done

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.cells, self.finished, self.found_done = max(event.cells, 1), event.done, event.done
            note(f"{event.folder}: {event.cells} cells, {event.done} done before")
        elif isinstance(event, CellStarted):
            if not self.has_begun:  # loading and starting workers says nothing about the pace of cells
                self.started, self.has_begun = time.perf_counter(), True
        elif isinstance(event, CellDone):
            self.finished += 1
            self.shares.pop(event.index, None)
            if event.error is not None:
                note(f"cell {event.index + 1}/{event.cells} {event.label} failed: {event.error}")
            self._show(f"{event.label}: done")
        elif isinstance(event, CellRetried):
            self.shares.pop(event.index, None)
            note(f"cell {event.index + 1}/{event.cells} {event.label} is tried again: {event.why}")
        elif isinstance(event, StepDone):
            best = "" if math.isnan(event.best) else f", best {event.best:.4g}"
            place = f"cell {event.index + 1}/{event.cells} {event.label}, step {event.level}/{event.steps}"
            self.shares[event.index] = min(event.level / event.steps, 1.0)
            self._show(f"{place}{best}, ESS {event.ess:.1f}")

    def _show(self, text: str) -> None:
        done = self.finished + sum(self.shares.values())
        here = (done - self.found_done) / self.cells  # what this process has done
        left = self.cells - done
        seconds = time.perf_counter() - self.started
        eta = f", ETA {as_duration(seconds * left / self.cells / here)}" if here > 0 and left > 0 else ""
        self.display.show(done / self.cells, text + eta)


class Lines:
    """One line on stderr whenever another tenth is done."""

    def __init__(self) -> None:
        self.tenth = 0

    def show(self, share: float, text: str) -> None:
        tenth = math.floor(share * LINES + 1e-9)
        if tenth > self.tenth:
            self.tenth = tenth
            note(f"{tenth * 100 // LINES:3d} %  {text}")

    def close(self) -> None:
        pass


class Bar:
    """A live bar on stderr that leaves nothing behind."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.percentage:3.0f} %"),
            BarColumn(bar_width=30),
            TextColumn("{task.description}", markup=False),
            console=console(sys.stderr),
            transient=True,
        )
        self.task = self.progress.add_task("", total=1.0)
        self.progress.start()

    def show(self, share: float, text: str) -> None:
        self.progress.update(self.task, completed=share, description=text)

    def close(self) -> None:
        self.progress.stop()
