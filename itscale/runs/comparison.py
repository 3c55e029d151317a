"""The cells of one or several runs arranged for comparison: series by method, pairs by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from itscale.runs.measure import MEASURES
from itscale.runs.record import RunRecord
from itscale.runs.statistics import Comparison, Interval, compare, interval
from itscale.runs.table import decimals_for

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which readers with any colour vision tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
UNGUIDED = "#767676"


@dataclass(frozen=True)
class Entry:
    """One cell: its summary, and the run that it belongs to."""

    record: RunRecord
    row: dict[str, Any]

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

    @property
    def samples(self) -> list[dict[str, Any]]:
        return [s for s in self.record.samples if s["cell"] == self.row["cell"]]

    @property
    def trace(self) -> list[dict[str, Any]]:
        return [t for t in self.record.trace if t["cell"] == self.row["cell"]]


@dataclass(frozen=True)
class Series:
    """One method over budgets, cheapest first, with the colour and marker that it has in every plot."""

    name: str
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

    def pairs(self, measure: str = "reward") -> list[tuple[Series, Comparison]]:
        """Compare every other series with the rival, each at its largest budget, group by group."""
        found = []
        for series in self.series:
            if self.rival is not None and series is not self.rival:
                done = paired(series.dearest, self.rival.dearest, measure)
                if done is not None:
                    found.append((series, done))
        return found

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
    """Compare two cells over the groups that they share: same index, seed and condition."""
    theirs = dict(zip(_groups(b), b.values(measure), strict=True))
    common = [(v, theirs[g]) for g, v in zip(_groups(a), a.values(measure), strict=True) if g in theirs]
    return compare([x for x, _ in common], [y for _, y in common]) if common else None


def board(records: Sequence[RunRecord]) -> Board:
    """Arrange the finished cells of runs."""
    grouped: dict[str, list[Entry]] = {}
    names = [record.name for record in records]
    for record in records:
        title = record.name if names.count(record.name) == 1 else record.folder.name
        for row in record.rows:
            name = _series_name(row)
            grouped.setdefault(f"{title}: {name}" if len(records) > 1 else name, []).append(
                Entry(record, row)
            )
    found = []
    free = zip(PALETTE * 9, (m for _ in range(9) for m in MARKERS), strict=False)
    for name, entries in sorted(grouped.items(), key=lambda item: item[1][0].is_steered):
        entries.sort(key=lambda e: e.nfe)
        colour, marker = next(free) if entries[0].is_steered else (UNGUIDED, "d")
        found.append(Series(name, tuple(entries), colour, marker))
    return Board(tuple(found))


def _series_name(row: dict[str, Any]) -> str:
    """The method and every other swept setting but the budget."""
    rest = [
        f"{path.rpartition('.')[2]} {value}"
        for path, value in row["swept"].items()
        if path != "method" and not path.startswith("run.budget")
    ]
    return ", ".join([row["method"], *rest])


def _groups(entry: Entry) -> list[tuple[Any, ...]]:
    row = entry.row
    seed = row["config"]["run"]["seed"]
    return [(seed, g, str(c)) for g, c in zip(row["groups"], row["conditions"], strict=True)]


def finite(values: Sequence[float | None]) -> list[float]:
    """Return the numbers among the values."""
    return [v for v in values if v is not None and math.isfinite(v)]
