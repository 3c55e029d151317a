"""``compare``: two runs or cells, unit by unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError
from itscale.runs import documents, statistics
from itscale.runs.pooling import Row, Unit, pool
from itscale.runs.sides import (
    WHOLE,
    Change,
    Side,
    in_parts,
    read_side,
    relate,
    settings_of,
    shown,
    why_nothing_matches,
)
from itscale.runs.table import interval_text, number

PAIRED = ("reward", "held_out", "nfe", "seconds")


@dataclass(frozen=True)
class Difference:
    """A measure of both sides on the same units.

    Attributes:
        a, b: means over the units.
        paired: a - b with its 95 % interval over units.
    """

    a: float
    b: float
    paired: statistics.Comparison


@dataclass(frozen=True)
class Stratum:
    """Cells of both sides that agree in every setting which varies inside one of them."""

    label: str
    pairs: int
    difference: Difference | None


@dataclass(frozen=True)
class RunComparison:
    """Two runs, unit by unit.

    Attributes:
        a, b: the folders as given.
        changed: path, value of a, value of b of the settings that are fixed in both and differ.
        matched_on: paths that vary inside a side; their values must be equal in a pair.
        pairs: pairs of cells and units.
        units: distinct (seed, group, condition) among them; the bootstrap draws these.
        unmatched: how many (cell, unit) of a, and of b, have no partner.
        measures: ``reward``, ``held_out``, ``nfe``, ``seconds`` -> difference; None where a side has none.
        strata: the reward, setting by setting of ``matched_on``.
        notes: what keeps a measure from being compared.
        conclusion: one sentence.
    """

    a: str
    b: str
    changed: list[Change]
    matched_on: list[str]
    pairs: int
    units: int
    unmatched: tuple[int, int]
    measures: dict[str, Difference | None]
    strata: list[Stratum]
    notes: list[str]
    conclusion: str


def compare(a: str | Path, b: str | Path) -> RunComparison:
    """Compare two runs, finished or not, over the conditions, seeds and budgets that they share.

    A setting that varies inside a run, such as the method or budget of a sweep, must be equal in a pair; one
    that is fixed in both and differs is what is compared. Where several pairs share a unit, as those of
    several budgets do, their mean is one observation, so that the interval does not count a unit twice.

    Args:
        a, b: folders of runs, or of cells: ``RUN/cells/KEY``.

    Raises:
        ConfigError: if a folder holds no finished cell, models or rewards differ, or nothing matches.
    """
    ours, theirs = read_side(a), read_side(b)
    settings = relate(ours, theirs)
    varying, changed = settings.varying, settings.changed
    left, right = _observations(ours, varying), _observations(theirs, varying)
    common = [key for key in left if key in right]
    if not common:
        raise ConfigError(why_nothing_matches(ours, theirs, varying))
    notes = []
    measures = {name: _difference(left, right, common, name) for name in PAIRED}
    if any(path == "held_out" for path, _, _ in changed):
        measures["held_out"] = None
        notes.append("the held-out rewards are different ones, so they are not compared")
    if {row["threads"] for row in ours.rows} != {row["threads"] for row in theirs.rows}:
        notes.append("torch had other numbers of threads, which seconds depend on")
    strata = [
        Stratum(label or "all", len(keys), _difference(left, right, keys, "reward"))
        for label, keys in _by_stratum(common, left).items()
    ]
    reward = measures["reward"]
    return RunComparison(
        str(a),
        str(b),
        in_parts(changed),
        varying,
        len(common),
        len({unit for unit, _ in common}),
        (len(left) - len(common), len(right) - len(common)),
        measures,
        strata,
        notes,
        "No pair has a reward to compare." if reward is None else conclusion(reward, len(common)),
    )


def conclusion(reward: Difference, pairs: int) -> str:
    """Return in one sentence what a paired comparison of rewards says."""
    gap = reward.paired.difference
    on = f"on {pairs} pair{'s' if pairs != 1 else ''}"
    if pairs != gap.groups:
        on += f" in {gap.groups} unit{'s' if gap.groups != 1 else ''}"
    if gap.low == gap.high == 0:
        return f"A and B have equal rewards {on}."
    if not gap.has_width:
        return f"A and B differ by {number(gap.mean)} {on}; one unit says nothing about chance."
    if gap.low > 0 or gap.high < 0:
        better, sign = ("A", 1) if gap.mean > 0 else ("B", -1)
        low, high = sorted((sign * gap.low, sign * gap.high))
        return f"{better} is better by {number(sign * gap.mean)} ({number(low)} to {number(high)}) {on}."
    return f"A and B are not told apart: A - B is {number(gap.mean)} ({interval_text(gap)}) {on}."


Key = tuple[Unit, str]  # a unit, and the values of the settings that vary


@dataclass(frozen=True)
class _Observation:
    label: str
    values: dict[str, float | None]


def _observations(side: Side, varying: Sequence[str]) -> dict[Key, _Observation]:
    found = {}
    for row, cells in pool(side.rows):
        settings = settings_of(cells[0])
        held = {path: settings.get(path) for path in varying}
        label = ", ".join(_told(path, value, row) for path, value in held.items() if value is not None)
        for i, unit in enumerate(row["units"]):
            values = {name: row["per_group"][name][i] for name in PAIRED}
            found[unit, documents.canonical(held)] = _Observation(label, values)
    return found


def _difference(
    left: dict[Key, _Observation], right: dict[Key, _Observation], keys: Iterable[Key], name: str
) -> Difference | None:
    """Compare a measure, observations of one unit as their mean."""
    by_unit: dict[Unit, list[tuple[float, float]]] = {}
    for key in keys:
        x, y = left[key].values[name], right[key].values[name]
        if x is not None and y is not None:
            by_unit.setdefault(key[0], []).append((x, y))
    if not by_unit:
        return None
    x = [_mean([ours for ours, _ in pairs]) for _, pairs in sorted(by_unit.items())]
    y = [_mean([theirs for _, theirs in pairs]) for _, pairs in sorted(by_unit.items())]
    paired = statistics.compare(x, y)
    assert paired is not None  # only known numbers are in it
    return Difference(_mean(x), _mean(y), paired)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _by_stratum(keys: Iterable[Key], left: dict[Key, _Observation]) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = {}
    for key in keys:
        found.setdefault(left[key].label, []).append(key)
    return found


def _told(path: str, value: Any, row: Row) -> str:
    """A setting in a label; the method as its run calls it."""
    if path == "method":
        return row["method"]
    return shown(value) if path in WHOLE else f"{path.rpartition('.')[2]} {shown(value)}"
