"""The part of a report that is about compositions: laws, their weights, and samples with and without them."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from itscale.runs.comparison import Board, Entry, Series
from itscale.runs.draws import load_draws
from itscale.runs.plots import new_figure, title
from itscale.runs.table import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def composed(board: Board) -> list[tuple[Series, Entry]]:
    """Return the entries of compositions at their largest budgets."""
    return [(s, s.dearest) for s in board.series if s.dearest.first.get("composition")]


def composition_lines(board: Board) -> list[dict[str, Any]]:
    """Return a line of the table per series: means over groups."""
    return [_line(series, entry) for series, entry in composed(board)]


def composition_findings(board: Board) -> list[str]:
    """Return a sentence per corrected series."""
    said = []
    for line in composition_lines(board):
        if not line["is_corrected"] or line["log_evidence"] == "–":
            continue
        error = f" ± {line['log_evidence_error']}" if line["log_evidence_error"] else ""
        said.append(
            f"{line['series'].name}: the law {line['law']} has log Z = {line['log_evidence']}{error}; at the "
            f"least {line['least_ess']} of {line['particles']} particles counted, and the largest weight was "
            f"{line['largest_weight']}."
        )
    return said


def draw_compositions(board: Board) -> Figure | None:
    """Draw samples of every series, corrected and uncorrected; None where none were kept."""
    found = []
    for series, entry in composed(board):
        drawn = load_draws(entry.record.folder, entry.first["cell"])
        found += [(f"{series.name}\n{name}", series, samples) for name, samples in sorted(drawn.items())]
    if not found:
        return None
    return _pictures(found) if found[0][2].ndim == 4 else _points(found)


def _line(series: Series, entry: Entry) -> dict[str, Any]:
    facts, row = entry.first["composition"], entry.row
    evidence = [v for v in row["per_group"]["log_evidence"] if v is not None and math.isfinite(v)]
    error = statistics.stdev(evidence) / math.sqrt(len(evidence)) if len(evidence) > 1 else None
    return {
        "series": series,
        "law": facts["law"],
        "is_corrected": facts["is_corrected"],
        "particles": row["particles"],
        "log_evidence": number(statistics.fmean(evidence), 2) if evidence else "–",
        "log_evidence_error": None if error is None else number(error, 2),
        "least_ess": number(statistics.fmean(facts["least_ess"]), 1),
        "ess": number(row["ess"], 1),
        "largest_weight": number(max(facts["largest_weight"]), 2),
        "virial": number(statistics.fmean(facts["virial"][0]), 3) if facts["virial"] else "–",
    }


def _pictures(found: list[tuple[str, Series, np.ndarray]]) -> Figure:
    columns = max(len(samples) for _, _, samples in found)
    figure, axes = new_figure(0.85 * columns + 1.4, 0.9 * len(found) + 0.2, len(found), columns)
    for line, (name, _, samples) in zip(axes, found, strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.set_frame_on(False)
        for axis, sample in zip(line, samples, strict=False):
            picture = sample.transpose(1, 2, 0)
            picture = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
            axis.imshow(picture.clip(0, 1), interpolation="nearest")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _points(found: list[tuple[str, Series, np.ndarray]]) -> Figure:
    figure, axes = new_figure(2.6 * len(found), 2.9, 1, len(found), sharex=True)
    for axis, (name, series, samples) in zip(axes[0], found, strict=True):
        points = samples.reshape(len(samples), -1)
        if points.shape[1] == 1:
            axis.hist(points[:, 0], bins=40, color=series.colour)
        else:
            axis.scatter(points[:, 0], points[:, 1], s=12, alpha=0.5, color=series.colour, lw=0)
        title(axis, name)
    return figure
