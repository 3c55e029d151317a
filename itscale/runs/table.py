"""The table of a run for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from itscale.runs.execute import RunSummary
from itscale.runs.pooling import pool
from itscale.runs.statistics import Interval, interval


def summary_table(summary: RunSummary) -> Table:
    """Return one line per setting: method, cost, reward with its 95 % interval, held-out reward.

    Cells that differ in seed, groups and condition alone make one line; intervals are over their units.
    """
    if any("posterior" in row for row in summary.rows):
        from itscale.runs.posterior_table import posterior_table  # which is built on this file

        return posterior_table(summary.rows)
    rows = [row for row, _ in pool(summary.rows)]
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
    top = _best(rows)
    places = {k: decimals_for(row[k] for row in rows) for k in ("reward", "held_out", "diversity")}
    for row in rows:
        reward = interval(row["per_group"]["reward"])
        cells = [
            row["method"],
            *(str(row["swept"].get(p, "")) for p in _swept_paths(rows)),
            f"{row['nfe']:,}",
        ]
        at = places["reward"]
        cells += [number(reward.mean, at), interval_text(reward, at), number(row["reward_mean"], at)]
        if has_held_out:
            cells.append(number(row["held_out"], places["held_out"]))
        cells += [number(row["diversity"], places["diversity"]), f"{row['seconds']:.1f}"]
        table.add_row(*cells, style="bold green" if row is top else None)
    for failure in summary.failed:
        table.add_row(failure["label"], "failed: " + failure["error"].split("\n")[0], style="red")
    return table


def _best(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of highest reward."""
    known = [row for row in rows if row["reward"] is not None]
    return max(known, key=lambda row: row["reward"]) if known else None


def number(value: float | None, decimals: int | None = None) -> str:
    """Return a number with as many decimals, or three significant digits; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    if decimals is None:
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def signed(value: float | None) -> str:
    """Return a number with three significant digits and its sign."""
    text = number(value)
    return text if text.startswith(("-", "–")) else f"+{text}"


def decimals_for(values: Iterable[float | None]) -> int:
    """Return the decimals that show three digits of the largest of these: for columns of numbers."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    return min(6, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 0


def interval_text(value: Interval, decimals: int | None = None) -> str:
    """Return ``low to high``, or a dash for a single group."""
    if not value.has_width:
        return "–"
    return f"{number(value.low, decimals)} to {number(value.high, decimals)}"


def _swept_paths(rows: list[dict[str, Any]]) -> list[str]:
    """Swept paths beside the method and the NFE budget, which have columns of their own."""
    paths = dict.fromkeys(path for row in rows for path in row["swept"])
    return [p for p in paths if p not in ("method", "run.budget.nfe")]


def swept_names(rows: list[dict[str, Any]]) -> list[str]:
    """Return short names of the paths that have a column of their own."""
    return [path.rpartition(".")[2] for path in _swept_paths(rows)]
