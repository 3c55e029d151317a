"""How far a run is, from the files in its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from itscale.runs import tasks
from itscale.runs.lock import holder
from itscale.runs.record import RunRecord, load_run
from itscale.runs.store import CONTENTS, TRACE, read_json


@dataclass(frozen=True)
class Running:
    """A cell that was begun and has not ended; of ``steps`` moves, ``level`` are made."""

    label: str
    level: int
    steps: int


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        folder: of the run.
        state: ``running`` while a live process holds the folder, ``done`` when every cell is finished,
            ``stopped`` otherwise: ``--resume`` goes on.
        process: the id of the process that holds the folder.
        cells: how many there are.
        finished: how many are done.
        failed: ``cell``, ``label`` and ``error`` of those that failed; a resumed run tries them again.
        running: cells that are begun; of a stopped run, those that will start again.
        seconds: that the finished cells took, added up over workers.
        seconds_left: of the same kind, at the finished cells' seconds per network row; None before the first.
    """

    folder: Path
    state: Literal["running", "done", "stopped"]
    process: int | None
    cells: int
    finished: int
    failed: list[dict[str, Any]]
    running: list[Running]
    seconds: float
    seconds_left: float | None


def status(folder: str | Path) -> RunStatus:
    """Return how far the run in a folder is; nothing is loaded, asked or changed.

    Raises:
        ConfigError: if the folder holds no run.
    """
    folder = Path(folder)
    record = load_run(folder)
    path = folder / CONTENTS
    contents = {cell["cell"]: cell for cell in read_json(path)} if path.exists() else {}
    ended = {row["cell"] for row in (*record.rows, *record.failures)}
    process = next((p for f in (folder, *tasks.folders(folder)) if (p := holder(f)) is not None), None)
    is_complete = bool(record.rows) and len(record.rows) == record.cells
    return RunStatus(
        folder,
        "running" if process is not None else "done" if is_complete else "stopped",
        process,
        record.cells,
        len(record.rows),
        [{k: f[k] for k in ("cell", "label", "error")} for f in record.failures],
        _running(folder, contents, ended),
        sum(row["seconds"] for row in record.rows),
        _seconds_left(record, contents),
    )


def _running(folder: Path, contents: dict[str, Any], ended: set[str]) -> list[Running]:
    levels = {
        row["cell"]: row["level"]
        for row in tasks.read_rows(folder, TRACE)
        if row["cell"] in contents and row["cell"] not in ended
    }
    return [Running(contents[key]["label"], level, contents[key]["steps"]) for key, level in levels.items()]


def _seconds_left(record: RunRecord, contents: dict[str, Any]) -> float | None:
    """Seconds of computing for the cells that are not finished, failed ones aside."""
    rows = {key: cell["rows"] for key, cell in contents.items()}
    finished = [row for row in record.rows if row["cell"] in rows]
    seconds, done = sum(row["seconds"] for row in finished), sum(rows.pop(row["cell"]) for row in finished)
    left = sum(rows[key] for key in rows.keys() - {failure["cell"] for failure in record.failures})
    return seconds / done * left if done else None
