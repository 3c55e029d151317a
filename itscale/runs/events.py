"""What happens in a run, for progress bars and logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True)
class RunStarted:
    """``cells`` are all of the run, ``done`` those that an earlier run has finished."""

    folder: Path
    cells: int
    done: int


@dataclass(frozen=True)
class CellStarted:
    """``index`` counts from 0; ``rows`` are the network rows that the cell will take."""

    index: int
    cells: int
    key: str
    label: str
    steps: int
    rows: int


@dataclass(frozen=True)
class StepDone:
    """One move of all particles of a cell.

    Attributes:
        level: moves done, of ``steps``.
        ess: mean effective sample size over groups.
        best: highest reward seen among the particles now; NaN before the first score.
        nfe: spent per group so far.
    """

    index: int
    cells: int
    key: str
    label: str
    level: int
    steps: int
    ess: float
    best: float
    nfe: int


@dataclass(frozen=True)
class CellDone:
    """The end of a cell: ``row`` is its line of the table, or ``error`` says what went wrong."""

    index: int
    cells: int
    key: str
    label: str
    row: dict[str, Any] | None
    error: str | None
    seconds: float


@dataclass(frozen=True)
class CellRetried:
    """A cell starts again from nothing, for the reason given."""

    index: int
    cells: int
    key: str
    label: str
    why: str


Event: TypeAlias = RunStarted | CellStarted | StepDone | CellRetried | CellDone
