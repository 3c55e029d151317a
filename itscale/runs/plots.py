"""Plots of a report: reward against cost, and the rewards of all samples. matplotlib is loaded when used."""

from __future__ import annotations

import importlib.util
import io
import re
from typing import TYPE_CHECKING, Any, Literal

from itscale.errors import missing_extra
from itscale.runs.comparison import UNGUIDED, Board, Series, finite
from itscale.runs.curves import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

STYLE: dict[RcKeyType, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "figure.facecolor": "white",
}


COSTS = {"nfe": "network evaluations per group (NFE)", "seconds": "seconds per group"}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> Any:
    """Return a figure without a window and its axes.

    Raises:
        MissingExtra: without matplotlib.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("matplotlib", "report", "a report's plots")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def title(axis: Axes, text: str) -> None:
    """Write a panel's title as all panels have it."""
    axis.set_title(text, loc="left", fontsize=11, fontweight="bold")


def whole_steps(axis: Axes) -> None:
    """Put ticks of the x axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def to_svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG to be put into a page: no addresses in it, ids of its own."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.id": name}):
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("xlink:href", "href")


def scaling(board: Board, curves: Curves, cost: Literal["nfe", "seconds"] = "nfe") -> Figure:
    """Reward of the answer against cost, and the held-out reward beside it; unguided samples as a level."""
    panels = [("reward", "Reward that steers")]
    if board.has_held_out:
        panels.append(("held_out", "Held-out reward, steers nothing"))
    figure, axes = new_figure(4.9 * len(panels) + 0.4, 3.7, 1, len(panels))
    for axis, (measure, text) in zip(axes[0], panels, strict=True):
        _scaling_panel(axis, board, curves, measure, cost)
        title(axis, text)
        axis.set_ylabel("mean over groups, 95 % band")
        axis.set_xlabel(COSTS[cost])
    handles, labels = axes[0][0].get_legend_handles_labels()
    columns = min(5, len(labels) or 1)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _scaling_panel(axis: Axes, board: Board, curves: Curves, measure: str, cost: str) -> None:
    ticks: set[float] = set()
    for curve in curves.curves:
        series, points = curve.series, sorted(curve.points, key=lambda point: getattr(point, cost))
        points = [(getattr(p, cost), p.values[measure]) for p in points if p.values[measure].groups]
        if not points:
            continue
        x, y = [p[0] for p in points], [p[1] for p in points]
        if series is board.baseline:
            axis.axhline(y[-1].mean, color=UNGUIDED, ls="--", lw=1.5, label="unguided sample")
            continue
        ticks.update(x)
        axis.plot(x, [i.mean for i in y], color=series.colour, marker=series.marker, lw=2, label=series.name)
        if all(i.has_width for i in y):
            low, high = [i.low for i in y], [i.high for i in y]
            if len(x) > 1:
                axis.fill_between(x, low, high, color=series.colour, alpha=0.13, lw=0)
            else:
                axis.vlines(x, low, high, color=series.colour, alpha=0.5)
    if ticks and min(ticks) > 0:
        axis.set_xscale("log")
        if cost == "nfe":
            kept = _apart(sorted(ticks))
            axis.set_xticks(kept, [f"{tick:,.0f}" for tick in kept])
        else:
            from matplotlib.ticker import LogLocator

            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()


def _apart(ticks: list[float]) -> list[float]:
    """Leave out ticks that would be written over their neighbours."""
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or kept[-1] / tick > 1.18:
            kept.append(tick)
    return kept[::-1]


def histogram(board: Board) -> Figure:
    """Rewards of all final samples, unguided and steered, each method at its largest budget."""
    shown: list[tuple[Series, list[float]]] = []
    for series in board.series:
        values = finite([s["reward"] for s in series.dearest.samples])
        if values:
            shown.append((series, values))
    figure, axes = new_figure(5.2, 2.9)
    axis = axes[0][0]
    if shown:
        every = sorted(v for _, values in shown for v in values)
        low, high = every[len(every) // 200], every[-1]  # a few hopeless samples must not squeeze the rest
        width = (high - low or 1.0) / 30
        edges = [low + i * width for i in range(32)]
        for series, values in shown:
            inside = [min(max(v, edges[0]), edges[-1]) for v in values]
            weights = [1 / len(values)] * len(values)
            look = {"color": series.colour, "label": f"{series.name} ({len(values)})"}
            if series.is_steered:
                axis.hist(inside, edges, weights=weights, histtype="step", lw=2, **look)
            else:
                axis.hist(inside, edges, weights=weights, alpha=0.35, **look)
        axis.legend(title="samples of", fontsize=9, title_fontsize=9, frameon=False)
    axis.set_xlabel("reward")
    axis.set_ylabel("share of samples")
    title(axis, "Rewards before and after steering")
    return figure
