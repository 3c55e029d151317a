"""The order in which cells are computed."""

from __future__ import annotations

from collections.abc import Sequence

from itscale.runs import documents
from itscale.runs.cells import Cell

UNIT_SETTINGS = (("run", "seed"), ("run", "groups"), ("model", "condition"))
"""Settings that name the units over which methods are compared, rather than what is compared."""


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells model by model, and within a model seed by seed and condition by condition.

    So every method at every budget has its first seed before any has its second, and the curves of an
    unfinished sweep compare like with like.
    """
    models: dict[str, int] = {}
    counts: dict[tuple[str, str], int] = {}
    places = {}
    for cell in cells:
        model = models.setdefault(_model(cell), len(models))
        compared = (_model(cell), documents.canonical(without_units(cell.resolved)))
        counts[compared] = counts.get(compared, 0) + 1
        places[cell.key] = (model, counts[compared], cell.index)
    return sorted(cells, key=lambda cell: places[cell.key])


class Queue:
    """Cells that wait. A worker is given cells of the model that it has loaded, while there are any."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = list(cells)
        self.models = {cell.key: _model(cell) for cell in cells}
        self.held: dict[int, str] = {}  # worker -> model of its last cell

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, worker: int) -> Cell | None:
        """Return the next cell for a worker, or None if nothing is left."""
        if not self.cells:
            return None
        own = self.held.get(worker)
        others = {model for number, model in self.held.items() if number != worker}
        same = (cell for cell in self.cells if self.models[cell.key] == own)
        free = (cell for cell in self.cells if self.models[cell.key] not in others)
        cell = next(same, None) or next(free, None) or self.cells[0]
        self.cells.remove(cell)
        self.held[worker] = self.models[cell.key]
        return cell

    def put_back(self, cell: Cell) -> None:
        """Let a cell be the next again."""
        self.cells.insert(0, cell)


def without_units(config: dict) -> dict:
    """Return a cell's settings but for those that name its units: seed, groups and conditions."""
    kept = {section: dict(config[section]) for section, _ in UNIT_SETTINGS}
    for section, name in UNIT_SETTINGS:
        kept[section].pop(name, None)
    return {**config, **kept}


def _model(cell: Cell) -> str:
    return documents.canonical([cell.model.name, dict(cell.model.options)])
