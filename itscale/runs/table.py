"""The table of a run for a terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from itscale.runs.execute import RunSummary
from itscale.runs.statistics import Interval, interval


def summary_table(summary: RunSummary) -> Table:
    """Return one line per cell: method, cost, reward with its 95 % interval over groups, held-out reward."""
    rows = summary.rows
    has_held_out = any(row["held_out"] is not None for row in rows)
    table = Table(title=None, header_style="bold", box=None, pad_edge=False)
    table.add_column("method")
    for name in swept_names(rows):
        table.add_column(name, justify="right")
    table.add_column("NFE", justify="right")
    table.add_column("reward", justify="right")
    table.add_column("95 % interval", justify="right", style="dim")
    table.add_column("mean of set", justify="right")
    if has_held_out:
        table.add_column("held-out", justify="right")
    table.add_column("diversity", justify="right")
    table.add_column("seconds", justify="right")
    top = best_label(rows)
    for row in rows:
        reward = interval(row["per_group"]["reward"])
        cells = [
            row["method"],
            *(str(row["swept"].get(p, "")) for p in _swept_paths(rows)),
            f"{row['nfe']:,}",
        ]
        cells += [number(reward.mean), interval_text(reward), number(row["reward_mean"])]
        if has_held_out:
            cells.append(number(row["held_out"]))
        cells += [number(row["diversity"]), f"{row['seconds']:.1f}"]
        table.add_row(*cells, style="bold green" if row["label"] == top else None)
    for failure in summary.failed:
        table.add_row(failure["label"], "failed: " + failure["error"].split("\n")[0], style="red")
    return table


def best_label(rows: list[dict[str, Any]]) -> str | None:
    """Return the label of the cell of highest reward."""
    known = [row for row in rows if row["reward"] is not None]
    return max(known, key=lambda row: row["reward"])["label"] if known else None


def number(value: float | None) -> str:
    """Return three significant digits, a dash for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval_text(value: Interval) -> str:
    """Return ``low to high``, or a dash for a single group."""
    return f"{number(value.low)} to {number(value.high)}" if value.has_width else "–"


def _swept_paths(rows: list[dict[str, Any]]) -> list[str]:
    """Swept paths beside the method and the NFE budget, which have columns of their own."""
    paths = dict.fromkeys(path for row in rows for path in row["swept"])
    return [p for p in paths if p not in ("method", "run.budget.nfe")]


def swept_names(rows: list[dict[str, Any]]) -> list[str]:
    """Return short names of the paths that have a column of their own."""
    return [path.rpartition(".")[2] for path in _swept_paths(rows)]
