"""Plots of molecules in a report: properties of the final samples, and what they trade for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itscale.runs.comparison import Board, Series
from itscale.runs.molecules import PROPERTIES
from itscale.runs.plots import new_figure, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "qed": "QED",
    "synthesizability": "ease of synthesis",
    "logp": "logP",
    "weight": "weight, Da",
    "rings": "rings",
}


def property_plots(board: Board) -> Figure | None:
    """Histograms of the properties of all final molecules, each method at its largest budget."""
    shown = _shown(board)
    if not shown:
        return None
    figure, axes = new_figure(2.5 * len(PROPERTIES), 2.6, 1, len(PROPERTIES))
    for axis, name in zip(axes[0], PROPERTIES, strict=True):
        every = [p[name] for _, found in shown for p in found]
        low, high = min(every), max(every)
        edges = [low + (high - low or 1.0) * i / 20 for i in range(21)]
        for series, found in shown:
            values = [p[name] for p in found]
            weights = [1 / len(values)] * len(values)
            look: dict[str, Any] = {"color": series.colour, "label": series.name}
            filled = {"alpha": 0.35} if not series.is_steered else {"histtype": "step", "lw": 1.8}
            axis.hist(values, edges, weights=weights, **filled, **look)
        axis.set_xlabel(LABELS[name])
    axes[0][0].set_ylabel("share of molecules")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    return figure


def pareto_plot(board: Board) -> Figure | None:
    """QED against ease of synthesis, with the molecules of each method that no other of its own beats."""
    shown = _shown(board)
    if not shown:
        return None
    figure, axes = new_figure(5.2, 3.6)
    axis = axes[0][0]
    for series, found in shown:
        points = [(p["qed"], p["synthesizability"]) for p in found]
        x, y = zip(*points, strict=True)
        axis.scatter(x, y, s=10, alpha=0.3, color=series.colour, lw=0)
        front = pareto_front(points)
        x, y = zip(*front, strict=True)
        axis.step(x, y, where="pre", color=series.colour, lw=1.8)
        axis.plot(x, y, ls="", marker=series.marker, ms=5, color=series.colour, label=series.name)
    axis.set_xlabel(LABELS["qed"])
    axis.set_ylabel(LABELS["synthesizability"])
    axis.legend(fontsize=9, frameon=False, loc="lower left")
    title(axis, "What is traded for what")
    return figure


def pareto_front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other reaches in both coordinates and exceeds in one, by the first."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]


def _shown(board: Board) -> list[tuple[Series, list[dict[str, float]]]]:
    """Series with the properties of their molecules."""
    found = [
        (series, [s["properties"] for s in series.dearest.samples if s.get("smiles") is not None])
        for series in board.series
        if series.dearest.row["modality"] == "molecule"
    ]
    return [(series, properties) for series, properties in found if properties]
