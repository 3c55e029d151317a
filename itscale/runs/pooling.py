"""Cells that differ in seed, groups and condition alone, put together: one point of a curve, many units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from itscale.runs import documents
from itscale.runs.measure import MEASURES
from itscale.runs.schedule import UNIT_SETTINGS, without_units

UNIT_PATHS = tuple(".".join(setting) for setting in UNIT_SETTINGS)
COUNTS = ("model_rows", "pilot_rows", "reward_calls", "held_out_calls", "seconds")

Unit = tuple[int, int, str]
"""Seed, group and condition: what two methods must share for their difference to be a paired one."""


Row = dict[str, Any]


def pool(rows: Sequence[Row]) -> list[tuple[Row, tuple[Row, ...]]]:
    """Return one row for every setting but seed, groups and condition, and the cells that it stands for.

    Args:
        rows: summaries of cells, of one run.

    Returns:
        Rows like summaries, in order of appearance. ``units`` has a ``Unit`` for every entry of
        ``per_group``, which also has ``seconds``: those of the cell divided by its groups. A unit that two
        cells hold is taken once.
    """
    alike: dict[str, list[Row]] = {}
    for row in rows:
        alike.setdefault(documents.canonical(without_units(row["config"])), []).append(row)
    return [(_merge(found), tuple(found)) for found in alike.values()]


def units_of(row: Row) -> list[Unit]:
    """Return the units of a cell's summary, in the order of its groups."""
    seed = row["config"]["run"]["seed"]
    return [(seed, g, str(c)) for g, c in zip(row["groups"], row["conditions"], strict=True)]


def is_unit_path(path: str) -> bool:
    """Whether a swept path names units rather than what is compared over them."""
    return path in UNIT_PATHS


def _merge(rows: list[Row]) -> Row:
    held: dict[Unit, tuple[Row, int]] = {}
    for row in rows:
        for i, unit in enumerate(units_of(row)):
            held.setdefault(unit, (row, i))
    units = sorted(held)  # one order for all, so that a seeded bootstrap draws the same units for each
    values: dict[str, list[float | None]] = {
        name: [held[unit][0]["per_group"][name][held[unit][1]] for unit in units]
        for name in rows[0]["per_group"]
    }
    values["seconds"] = [held[unit][0]["seconds"] / len(held[unit][0]["groups"]) for unit in units]
    first = rows[0]
    return {
        **first,
        "swept": {path: value for path, value in first["swept"].items() if not is_unit_path(path)},
        "units": units,
        "groups": [group for _, group, _ in units],
        "conditions": [held[unit][0]["conditions"][held[unit][1]] for unit in units],
        "per_group": values,
        "nfe": max(row["nfe"] for row in rows),
        "truncated": any(row["truncated"] for row in rows),
        "dead_groups": [group for row in rows for group in row["dead_groups"]],
        **{name: sum(row[name] for row in rows) for name in COUNTS},
        **{name: _mean(values[name]) for name in MEASURES},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return sum(known) / len(known) if known else None
