"""The cells of one or several runs arranged for comparison: series by method, pairs by unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from itscale.runs.measure import MEASURES
from itscale.runs.pooling import Unit, is_unit_path, pool
from itscale.runs.record import RunRecord
from itscale.runs.statistics import Comparison, Interval, compare, interval
from itscale.runs.table import decimals_for

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which readers with any colour vision tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
UNGUIDED = "#767676"


@dataclass(frozen=True)
class Entry:
    """The cells that differ in seed, groups and condition alone, as one, and the run that they belong to.

    Attributes:
        row: as ``pool`` returns it.
        cells: summaries of the cells.
    """

    record: RunRecord
    row: dict[str, Any]
    cells: tuple[dict[str, Any], ...]

    @property
    def nfe(self) -> int:
        return self.row["nfe"]

    @property
    def is_steered(self) -> bool:
        return self.row["is_steered"]

    def values(self, measure: str) -> list[float | None]:
        """Return a measure per group."""
        return self.row["per_group"][measure]

    def interval(self, measure: str) -> Interval:
        """Return the mean of a measure over groups and its 95 % interval."""
        return interval(self.values(measure))

    @cached_property
    def by_unit(self) -> dict[Unit, int]:
        """Unit -> its place among the values of a measure."""
        return {unit: i for i, unit in enumerate(self.row["units"])}

    def values_of(self, measure: str, units: Sequence[Unit]) -> list[float | None]:
        """Return a measure of the units given, which the entry must have."""
        values = self.values(measure)
        return [values[self.by_unit[unit]] for unit in units]

    @property
    def samples(self) -> list[dict[str, Any]]:
        keys = {cell["cell"] for cell in self.cells}
        return [s for s in self.record.samples if s["cell"] in keys]

    @property
    def first(self) -> dict[str, Any]:
        """The first cell's summary, for pictures of what particles do."""
        return self.cells[0]

    @property
    def trace(self) -> list[dict[str, Any]]:
        """Moves of the first cell."""
        return [t for t in self.record.trace if t["cell"] == self.first["cell"]]


@dataclass(frozen=True)
class Series:
    """One method over budgets, cheapest first, with the colour and marker that it has in every plot.

    ``setting`` is what else is swept, such as ``tilt 4``, and the run where there are several.
    """

    name: str
    setting: str
    entries: tuple[Entry, ...]
    colour: str
    marker: str

    @property
    def is_steered(self) -> bool:
        return self.entries[0].is_steered

    @property
    def dearest(self) -> Entry:
        return self.entries[-1]


@dataclass(frozen=True)
class Board:
    """All series of a report, unguided ones first."""

    series: tuple[Series, ...]

    @cached_property
    def baseline(self) -> Series | None:
        """The unguided series, if there is one."""
        return next((s for s in self.series if not s.is_steered), None)

    @cached_property
    def steered(self) -> tuple[Series, ...]:
        return tuple(s for s in self.series if s.is_steered)

    @cached_property
    def best(self) -> Series | None:
        """The series of highest reward at its largest budget."""
        known = [s for s in self.series if s.dearest.row["reward"] is not None]
        return max(known, key=lambda s: s.dearest.row["reward"]) if known else None

    @property
    def has_held_out(self) -> bool:
        return any(e.row["held_out"] is not None for s in self.series for e in s.entries)

    @cached_property
    def rival(self) -> Series | None:
        """What the others are compared with: best-of-n where it ran, else the unguided series."""
        simple = [s for s in self.series if s.dearest.row["method"].startswith("best-of-n")]
        return simple[0] if simple else self.baseline

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Measure -> decimals that suit its means."""
        rows = [e.row for s in self.series for e in s.entries]
        return {name: decimals_for(row[name] for row in rows) for name in MEASURES}

    def rival_of(self, series: Series) -> Series | None:
        """Return the rival that shares a series' other settings, or else the first one."""
        if self.rival is None:
            return None
        kin = self.rival.entries[0].row["method"]
        alike = (s for s in self.series if s.setting == series.setting and s.entries[0].row["method"] == kin)
        return next(alike, self.rival)

    def held_out_fell(self, entry: Entry) -> bool:
        """Whether steering raised the reward while the held-out one fell, against unguided samples.

        Both beyond their paired 95 % intervals; without an unguided run nothing can be said.
        """
        if self.baseline is None or not entry.is_steered:
            return False
        rise = paired(entry, self.baseline.dearest, "reward")
        fall = paired(entry, self.baseline.dearest, "held_out")
        return bool(rise and fall and rise.difference.low > 0 and fall.difference.high < 0)


def paired(a: Entry, b: Entry, measure: str) -> Comparison | None:
    """Compare two entries over the units that they share: same seed, group and condition."""
    common = sorted(a.by_unit.keys() & b.by_unit.keys())
    return compare(a.values_of(measure, common), b.values_of(measure, common)) if common else None


def board(records: Sequence[RunRecord]) -> Board:
    """Arrange the finished cells of runs."""
    grouped: dict[tuple[str, str], list[Entry]] = {}
    names = [record.name for record in records]
    for record in records:
        title = record.name if names.count(record.name) == 1 else record.folder.name
        for row, cells in pool(record.rows):
            setting = setting_of(row)
            name = ", ".join(filter(None, [row["method"], setting]))
            where = (f"{title}: {name}" if len(records) > 1 else name, setting)
            grouped.setdefault(where, []).append(Entry(record, row, cells))
    found = []
    free = zip(PALETTE * 9, (m for _ in range(9) for m in MARKERS), strict=False)
    for (name, setting), entries in sorted(grouped.items(), key=lambda item: item[1][0].is_steered):
        entries.sort(key=lambda e: e.nfe)
        colour, marker = next(free) if entries[0].is_steered else (UNGUIDED, "d")
        found.append(Series(name, setting, tuple(entries), colour, marker))
    return Board(tuple(found))


def setting_of(row: dict[str, Any]) -> str:
    """Return what is swept beside the method, the budget and the units, such as ``tilt 4``."""
    return ", ".join(
        f"{path.rpartition('.')[2]} {value}"
        for path, value in row["swept"].items()
        if path != "method" and not path.startswith("run.budget") and not is_unit_path(path)
    )


def finite(values: Sequence[float | None]) -> list[float]:
    """Return the numbers among the values."""
    return [v for v in values if v is not None and math.isfinite(v)]
