"""Tasks of a job array that share a run's folder: each writes rows into files of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError
from itscale.runs import records
from itscale.runs.lock import holder

TASKS, MARK = "tasks", "task"
"""Folder of the tasks' folders, and the file in a cell's folder that names the task with its rows."""

SLURM = "slurm"


@dataclass(frozen=True)
class Share:
    """Every ``count``-th cell, beginning with cell ``number``."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ConfigError(
                f"array task {self.number}/{self.count} is none: tasks of {self.count} count from 0"
            )

    @classmethod
    def read(cls, text: str) -> Share:
        """Read ``K/N``, or ``slurm`` for what the job's environment says.

        Raises:
            ConfigError: if it is neither, or there is no job array.
        """
        if text == SLURM:
            return cls._of_slurm()
        number, slash, count = text.partition("/")
        if not (slash and number.isdigit() and count.isdigit()):
            raise ConfigError(f"--array is {text!r}: it should be K/N, such as 0/16, or slurm")
        return cls(int(number), int(count))

    @classmethod
    def _of_slurm(cls) -> Share:
        try:
            number, first, count = (
                int(os.environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "COUNT")
            )
            step = int(os.environ.get("SLURM_ARRAY_TASK_STEP", "1"))
        except (KeyError, ValueError) as error:
            raise ConfigError(
                "--array slurm needs the variables of a job array, and there are none: submit with "
                "sbatch --array=0-15, or write --array K/N"
            ) from error
        return cls((number - first) // step, count)

    @property
    def name(self) -> str:
        """Of the task's folder; a requeued task finds it again."""
        return f"{self.number:04d}-of-{self.count:04d}"


def folders(folder: Path) -> list[Path]:
    """Folders of all tasks that ever wrote into a run."""
    return sorted(path for path in (folder / TASKS).glob("*") if path.is_dir())


def live(folder: Path) -> list[Path]:
    """Folders of tasks that a process holds."""
    return [path for path in folders(folder) if holder(path) is not None]


def marks(folder: Path) -> dict[str, str]:
    """Cell -> the task that has its rows."""
    return {p.parent.name: p.read_text(encoding="utf-8") for p in folder.glob(f"cells/*/{MARK}")}


def read_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a file of a run and of its tasks; of a finished cell, those that belong to it."""
    found = folders(folder)
    if not found:
        return records.read_lines(folder / name)
    marked = marks(folder)
    done = {path.parent.name for path in folder.glob("cells/*/summary.json")}
    rows = [row for row in records.read_lines(folder / name) if row["cell"] not in marked]
    for task in found:
        for row in records.read_lines(task / name):
            cell = row["cell"]
            if marked.get(cell) == task.name or (cell not in done and cell not in marked):
                rows.append(row)
    return rows


def absorb(folder: Path, names: tuple[str, ...], keep: Callable[[Path, set[str]], None]) -> None:
    """Move the rows of finished cells from tasks that are over into the run's own files.

    A kill in the middle leaves the marks, so that rows which are in both places are read in one.

    Args:
        folder: of the run, which this process holds.
        names: of the files.
        keep: drops the rows of cells from a file.
    """
    alive = {path.name for path in live(folder)}
    marked = {cell: task for cell, task in marks(folder).items() if task not in alive}
    marked = {c: t for c, t in marked.items() if (folder / "cells" / c / "summary.json").exists()}
    for name in names:
        keep(folder / name, set(marked))
        for task in sorted(set(marked.values())):
            rows = records.read_lines(folder / TASKS / task / name)
            mine = [row for row in rows if marked.get(row["cell"]) == task]
            if mine:
                records.append(folder / name, mine)
        records.flush(folder / name)
    for cell in marked:
        (folder / "cells" / cell / MARK).unlink()
    for path in folders(folder):
        if path.name not in alive:
            for name in names:
                (path / name).unlink(missing_ok=True)
