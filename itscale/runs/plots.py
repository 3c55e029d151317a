"""The pictures of a report: samples at equal budget, reward against cost, sample sizes over time."""

from __future__ import annotations

import math
from typing import Any

from itscale.errors import missing_extra
from itscale.runs.record import RunRecord
from itscale.runs.statistics import interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # colour-blind safe


def figure(width: float, height: float, **layout: Any) -> tuple[Any, Any]:
    """Return a matplotlib figure and its axes, outside of pyplot's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "report", "the report") from None
    made = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return made, made.subplots(**layout)


def methods_of(rows: list[dict[str, Any]]) -> list[str]:
    """Method labels in order of appearance."""
    return list(dict.fromkeys(row["method"] for row in rows))


def scaling(run: RunRecord) -> Any:
    """Draw steered and held-out reward of the answer against NFE, a line per method, 95 % bands."""
    has_held_out = any(row["held_out"] is not None for row in run.rows)
    made, axes = figure(10 if has_held_out else 5.5, 4, ncols=2 if has_held_out else 1, squeeze=False)
    panels = [("reward", "steered reward of the answer")]
    if has_held_out:
        panels.append(("held_out", "held-out reward of the answer"))
    for axis, (measure, title) in zip(axes[0], panels, strict=True):
        for colour, method in zip(COLOURS * 3, methods_of(run.rows), strict=False):
            rows = sorted((r for r in run.rows if r["method"] == method), key=lambda r: r["nfe"])
            rows = [r for r in rows if r[measure] is not None]
            if not rows:
                continue
            if not rows[0]["is_steered"]:
                axis.axhline(rows[-1][measure], color="#777777", linestyle="--", label=method)
                continue
            found = [interval(r["per_group"][measure]) for r in rows]
            nfe = [r["nfe"] for r in rows]
            axis.plot(nfe, [f.mean for f in found], marker="o", color=colour, label=method)
            if all(f.has_width for f in found):
                low, high = [f.low for f in found], [f.high for f in found]
                axis.fill_between(nfe, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_xscale("log")
        axis.set_xlabel("network evaluations per group")
        axis.set_title(title, fontsize=11)
        axis.grid(alpha=0.25)
    axes[0][0].legend(frameon=False)
    return made


def answers_grid(run: RunRecord) -> Any | None:
    """Draw the answers of every method at its largest budget: a row per method, a column per group."""
    largest: dict[str, dict[str, Any]] = {}
    for row in run.rows:
        if row["method"] not in largest or row["nfe"] >= largest[row["method"]]["nfe"]:
            largest[row["method"]] = row
    shown = {row["cell"]: row for row in largest.values()}
    files = [s for s in run.samples if s["is_answer"] and s["file"] and s["cell"] in shown]
    if not files:
        return None
    from PIL import Image

    groups = sorted({s["group"] for s in files})
    made, axes = figure(
        1.25 * len(groups) + 1.2, 1.45 * len(shown) + 0.4, nrows=len(shown), ncols=len(groups), squeeze=False
    )
    for line, row in zip(axes, shown.values(), strict=True):
        line[0].set_ylabel(f"{row['method']}\n{row['nfe']} NFE", fontsize=9)
        for axis, group in zip(line, groups, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_visible(False)
            found = [s for s in files if s["cell"] == row["cell"] and s["group"] == group]
            if found:
                axis.imshow(Image.open(run.folder / found[0]["file"]), cmap="gray", vmin=0, vmax=255)
                axis.set_xlabel(f"{found[0]['reward']:.1f}", fontsize=9)
    made.suptitle("Answers at the largest budget, steered reward below", fontsize=10)
    return made


def sample_sizes(run: RunRecord) -> Any | None:
    """Draw the effective sample size of the first group over time; dots mark resamplings."""
    weighted = [r for r in run.rows if r["claim"]["evidence"] and r["particles"] > 1]
    if not weighted:
        return None
    made, axis = figure(6.5, 3.2)
    for colour, row in zip(COLOURS * 3, weighted, strict=False):
        lines = [t for t in run.trace if t["cell"] == row["cell"] and t["group"] == row["groups"][0]]
        t, share = [v["t"] for v in lines], [v["ess"] / row["particles"] for v in lines]
        axis.plot(t, share, color=colour, label=row["label"])
        marks = [(a, b) for a, b, v in zip(t, share, lines, strict=True) if v["resampled"]]
        if marks:
            axis.scatter(*zip(*marks, strict=True), color=colour, s=16, zorder=3)
    axis.set(xlabel="t (0 noise, 1 data)", ylabel="ESS / particles", ylim=(0, 1.05))
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    return made


def histogram(run: RunRecord) -> Any | None:
    """Draw the rewards of all final samples, a line per method at its largest budget."""
    made, axis = figure(6.5, 3.2)
    drawn = False
    for colour, method in zip(COLOURS * 3, methods_of(run.rows), strict=False):
        row = max((r for r in run.rows if r["method"] == method), key=lambda r: r["nfe"])
        rewards = [s["reward"] for s in run.samples if s["cell"] == row["cell"]]
        rewards = [r for r in rewards if r is not None and math.isfinite(r)]
        if rewards:
            axis.hist(rewards, bins=24, density=True, histtype="step", color=colour, label=row["label"])
            drawn = True
    axis.set(xlabel="reward of a final sample", ylabel="density")
    axis.legend(frameon=False, fontsize=8)
    return made if drawn else None


def ancestor_tree(run: RunRecord, limit: int = 32) -> Any | None:
    """Draw who descends from whom in the first group of the last weighted cell."""
    for row in reversed(run.rows):
        ancestors = run.ancestors(row["cell"]) if row["claim"]["evidence"] else None
        if ancestors is None or ancestors.shape[2] > limit:
            continue
        made, axis = figure(6.5, 3.2)
        for move, parents in enumerate(ancestors[:, 0]):
            for child, parent in enumerate(parents):
                axis.plot([move, move + 1], [parent, child], color="#0072B2", linewidth=0.7, alpha=0.7)
        axis.set(xlabel="move", ylabel="particle", title=f"ancestry, {row['label']}")
        return made
    return None
