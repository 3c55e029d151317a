"""Scaling curves: reward against cost for every method, over the same units, with paired intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from itscale.runs.comparison import Board, Entry, Series, finite, paired
from itscale.runs.pooling import Unit
from itscale.runs.statistics import Comparison, Interval, interval

REWARDS = ("reward", "held_out")
NEAREST = 1.25
"""Two costs count as one budget, where none is stated, if they differ by less than this factor."""


@dataclass(frozen=True)
class Point:
    """One method at one budget.

    Attributes:
        nfe, seconds: of one unit, means.
        values: ``reward`` and ``held_out`` -> mean over units with its 95 % interval.
        gains: the same, minus those of the rival at this budget, unit by unit; None without a rival there.
    """

    entry: Entry
    nfe: float
    seconds: float
    values: dict[str, Interval]
    gains: dict[str, Comparison | None]


@dataclass(frozen=True)
class Curve:
    """One method over budgets, cheapest first, and the series that it is compared with."""

    series: Series
    rival: Series | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Curves:
    """All curves of a report.

    Attributes:
        units: how many (seed, group, condition) the means are over; None if the points have none in common
            and each mean is over its own.
    """

    curves: tuple[Curve, ...]
    units: int | None


def curves(board: Board) -> Curves:
    """Return the curves of a board.

    Means are over the units that every point has, so that an unfinished sweep does not compare one method's
    easy conditions with another's hard ones. The bootstrap draws the same units for every point.
    """
    entries = [entry for series in board.series for entry in series.entries]
    common = set.intersection(*(set(entry.by_unit) for entry in entries)) if entries else set()
    units = sorted(common) or None
    found = []
    for series in board.series:
        rival = board.rival_of(series)
        rival = None if rival is series else rival
        points = tuple(_point(entry, rival, units) for entry in series.entries)
        found.append(Curve(series, rival, points))
    return Curves(tuple(found), len(units) if units else None)


def plain_curves(drawn: Curves) -> list[dict[str, Any]]:
    """Return one mapping per point, for other programs: means and gains are ``{mean, low, high, groups}``."""
    return [
        {
            "series": curve.series.name,
            "nfe": point.nfe,
            "seconds": point.seconds,
            **{name: asdict(value) for name, value in point.values.items()},
            "rival": curve.rival.name if curve.rival and any(point.gains.values()) else None,
            **{
                f"{name}_gain": asdict(gain.difference) if gain else None
                for name, gain in point.gains.items()
            },
        }
        for curve in drawn.curves
        for point in curve.points
    ]


def _point(entry: Entry, rival: Series | None, units: Sequence[Unit] | None) -> Point:
    chosen = units or sorted(entry.by_unit)
    other = None if rival is None else _same_budget(entry, rival)
    return Point(
        entry,
        _mean(entry, "nfe", chosen),
        _mean(entry, "seconds", chosen),
        {name: interval(entry.values_of(name, chosen)) for name in REWARDS},
        {name: None if other is None else paired(entry, other, name) for name in REWARDS},
    )


def _same_budget(entry: Entry, rival: Series) -> Entry | None:
    """The rival's entry of the same stated budget, or else of the nearest NFE, if near enough."""
    limits = _limits(entry)
    if limits and (found := next((e for e in rival.entries if _limits(e) == limits), None)):
        return found
    if not entry.nfe or not all(e.nfe for e in rival.entries):
        return None
    ratio, _, nearest = min((abs(math.log(e.nfe / entry.nfe)), i, e) for i, e in enumerate(rival.entries))
    return nearest if ratio < math.log(NEAREST) else None


def _limits(entry: Entry) -> dict[str, object]:
    return {name: limit for name, limit in (entry.row["budget"] or {}).items() if limit is not None}


def _mean(entry: Entry, measure: str, units: Sequence[Unit]) -> float:
    known = finite(entry.values_of(measure, units))
    return sum(known) / len(known) if known else math.nan
