"""The two sides of a comparison: which cells they are, and how their settings differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError
from itscale.runs import documents, layers
from itscale.runs.pooling import Row
from itscale.runs.record import RunRecord, load_run
from itscale.runs.schedule import without_units

WHOLE = ("method", "process", "solver", "value", "reward", "held_out")
"""Sections that are matched as a whole: their options mean nothing without their name."""

Change = tuple[str, Any, Any]
"""A path, its value in A and its value in B."""


@dataclass(frozen=True)
class Side:
    """One of the two: a run, or one cell of it."""

    record: RunRecord
    rows: tuple[Row, ...]
    name: str

    @property
    def settings(self) -> list[dict[str, Any]]:
        """What each row was run with, but for its units, by path."""
        return [settings_of(row) for row in self.rows]

    def values(self, path: str) -> dict[str, Any]:
        """Return the distinct values that a setting takes, by their spelling."""
        return {documents.canonical(s.get(path)): s.get(path) for s in self.settings}


@dataclass(frozen=True)
class Settings:
    """How the settings of two sides relate.

    Attributes:
        varying: paths that take several values inside a side.
        changed: what is fixed in both and differs.
    """

    varying: list[str]
    changed: list[Change]


def read_side(given: str | Path) -> Side:
    """Read the folder of a run, or of a cell: ``RUN/cells/KEY``.

    Raises:
        ConfigError: if it holds no finished cell.
    """
    path = Path(given)
    is_cell = path.parent.name == "cells" and not (path / "config.yaml").exists()
    record = load_run(path.parent.parent if is_cell else path)
    rows = tuple(row for row in record.rows if not is_cell or row["cell"] == path.name)
    if not rows:
        raise ConfigError(f"{path} holds no finished cell, so there is nothing to compare; run it first")
    return Side(record, rows, str(given))


def settings_of(row: Row) -> dict[str, Any]:
    """Return what a cell was run with, but for its units, by path."""
    config = without_units(row["config"])
    settings: dict[str, Any] = {name: config.get(name) for name in WHOLE}
    for name in config.keys() - set(WHOLE):
        settings.update(layers.leaves(config[name], name))
    settings.pop("run.save", None)
    return dict(sorted(settings.items()))


def relate(ours: Side, theirs: Side) -> Settings:
    """Sort the settings of two sides into those that vary inside one and those that differ between them.

    Raises:
        ConfigError: if the sides have different models or rewards.
    """
    paths = list(dict.fromkeys(path for side in (ours, theirs) for s in side.settings for path in s))
    mine, other = ({path: side.values(path) for path in paths} for side in (ours, theirs))
    varying = [path for path in paths if len(mine[path]) > 1 or len(other[path]) > 1]
    changed = [
        (path, next(iter(mine[path].values())), next(iter(other[path].values())))
        for path in paths
        if path not in varying and mine[path].keys() != other[path].keys()
    ]
    _refuse_other_targets(ours, theirs, changed)
    return Settings(varying, changed)


def _refuse_other_targets(ours: Side, theirs: Side, changed: Sequence[Change]) -> None:
    for path, x, y in changed:
        if path == "reward" or (path.startswith("model.") and path != "model.guidance"):
            raise ConfigError(
                f"A and B have different {path.partition('.')[0]}s ({path}: {shown(x)} and {shown(y)}), so "
                "their numbers do not compare; compare runs of one model and one reward"
            )
    mine, other = (side.record.environment.get("weights", {}) for side in (ours, theirs))
    for name in sorted(mine.keys() & other.keys()):
        if mine[name] != other[name]:
            raise ConfigError(
                f"A and B have different models: the weights of {name!r} are {mine[name]} in A and "
                f"{other[name]} in B; compare runs of one model"
            )


def why_nothing_matches(ours: Side, theirs: Side, varying: Sequence[str]) -> str:
    """Return what keeps every cell of one side from matching one of the other."""
    for path in varying:
        mine, other = ours.values(path), theirs.values(path)
        if not mine.keys() & other.keys():
            return (
                f"no cell of A matches one of B: {path} is {_listed(mine.values())} in A and "
                f"{_listed(other.values())} in B; compare two cells, RUN/cells/KEY"
            )
    return "no cell of A matches one of B: they share no seed, group and condition at equal settings"


def _listed(values: Iterable[Any]) -> str:
    return " or ".join(shown(value) for value in values)


def in_parts(changed: Iterable[Change]) -> list[Change]:
    """Take whole sections apart where both sides name the same thing with other options."""
    found = []
    for path, x, y in changed:
        mine, other = dict(layers.leaves(x, path)), dict(layers.leaves(y, path))
        if isinstance(x, dict) and isinstance(y, dict) and x.get("name") == y.get("name"):
            found += [
                (p, mine.get(p), other.get(p)) for p in {**mine, **other} if mine.get(p) != other.get(p)
            ]
        else:
            found.append((path, x, y))
    return found


def shown(value: Any) -> str:
    """A setting in short: the name of what has one, with the options that are set."""
    if isinstance(value, dict) and "name" in value:
        options = ", ".join(f"{k} {shown(v)}" for k, v in value.items() if k != "name" and v is not None)
        return f"{value['name']} ({options})" if options else str(value["name"])
    return documents.dump(value).replace("\n...", "").strip()
