"""Plots of what the particles did: effective sample size over time, and who descends from whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from itscale.runs.comparison import Board, Series
from itscale.runs.plots import new_figure, title, whole_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PANELS = 3


def weighted_series(board: Board) -> list[Series]:
    """Return the series whose particles carried weights or were resampled, the best first."""
    found = []
    for series in board.series:
        trace, n = series.dearest.trace, series.dearest.row["particles"]
        if n > 1 and any(row["ess"] < n * (1 - 1e-6) for row in trace):
            found.append(series)
    return sorted(found, key=lambda s: -(s.dearest.row["reward"] or 0))[:MOST_PANELS]


def effective_sizes(board: Board) -> Figure | None:
    """ESS after every move: all groups, with the resampling steps of the first one marked."""
    chosen = weighted_series(board)
    if not chosen:
        return None
    figure, axes = new_figure(5.2 * min(2, len(chosen)), 2.9, 1, len(chosen), sharey=True)
    for axis, series in zip(axes[0], chosen, strict=True):
        trace, n = series.dearest.trace, series.dearest.row["particles"]
        groups = series.dearest.first["groups"]
        for group in groups:
            rows = [row for row in trace if row["group"] == group]
            first = group == groups[0]
            x, y = [row["level"] for row in rows], [row["ess"] / n for row in rows]
            axis.plot(x, y, color=series.colour, lw=2 if first else 0.8, alpha=1.0 if first else 0.3)
        marks = (series.dearest.first["resampled_at"] or [[]])[0]
        axis.plot(marks, [1.06] * len(marks), ls="", marker="v", color="#222222", label="resampled")
        title(axis, f"{series.name}: share of effective particles")
        whole_steps(axis)
        axis.set_xlabel("step, from noise to data")
        axis.set_ylim(0, 1.14)
        axis.legend(loc="lower left", fontsize=9, frameon=False)
    axes[0][0].set_ylabel(f"ESS / {chosen[0].dearest.row['particles']} particles")
    return figure


def family_tree(board: Board) -> Figure | None:
    """The ancestors of the final particles of one group, best weighted method at its largest budget."""
    for series in weighted_series(board):
        ancestors = series.dearest.record.ancestors(series.dearest.first["cell"])
        if ancestors is not None:
            return _tree(series, ancestors[:, 0])
    return None


def _tree(series: Series, ancestors: np.ndarray) -> Figure:
    """Draw (moves, n) ancestors; lines that reach the end are coloured by their first ancestor."""
    moves, n = ancestors.shape
    generations = [np.arange(n)]
    for parents in ancestors[::-1]:
        generations.append(parents[generations[-1]])
    survivors = [np.unique(slots) for slots in generations[::-1]]  # per population, those with descendants
    figure, axes = new_figure(5.2, 2.9)
    axis = axes[0][0]
    dead: list[Any] = []
    alive: list[Any] = []
    for k in range(1, moves):
        for slot in range(n):
            line = ([k - 1, k], [int(ancestors[k - 1][slot]), slot])
            (alive if slot in survivors[k] else dead).append(line)
    for lines, colour, width in ((dead, "#cfcfcf", 0.7), (alive, series.colour, 1.6)):
        for x, y in lines:
            axis.plot(x, y, color=colour, lw=width, solid_capstyle="round")
    eves = len(np.unique(generations[-1]))
    title(axis, f"{series.name}: {n} particles descend from {eves} of {n}")
    whole_steps(axis)
    axis.set_xlabel("step, from noise to data")
    axis.set_ylabel("particle")
    axis.grid(False)
    return figure
