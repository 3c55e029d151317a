"""The picture grid of a report: a column per method, a row per group, the reward under each picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from itscale.runs.comparison import Board, Entry, Series
from itscale.runs.plots import new_figure
from itscale.runs.table import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 10
PICTURED = ("image", "video", "molecule")


@dataclass(frozen=True)
class Tile:
    """One answer: its picture's file (None where it could not be kept) and its numbers."""

    file: Path | None
    reward: str
    held_out: str
    is_best: bool


@dataclass(frozen=True)
class Gallery:
    """Tiles by row (condition and group) and column (method at its largest budget)."""

    columns: tuple[tuple[str, str], ...]  # method, cost
    rows: tuple[tuple[str, tuple[Tile, ...]], ...]
    left_out: int


def gallery(board: Board) -> Gallery | None:
    """Arrange the answers of every series; None where the samples are no pictures."""
    series = [s for s in board.series if s.dearest.row["modality"] in PICTURED]
    if not series:
        return None
    columns = tuple((s.name, f"{s.dearest.nfe:,} NFE") for s in series)
    answers = [_answers(s.dearest) for s in series]
    keys = list(dict.fromkeys(key for answer in answers for key in answer))
    rows = []
    for key in keys[:MOST_ROWS]:
        found = [answer.get(key) for answer in answers]
        rewards = [row["reward"] for row in found if row and row["reward"] is not None]
        best = max(rewards, default=None)
        tiles = [_tile(s, row, best, board.decimals) for s, row in zip(series, found, strict=True)]
        rows.append((_title(key, keys), tuple(tiles)))
    return Gallery(columns, tuple(rows), len(keys) - len(rows))


def draw_gallery(shown: Gallery, title: str) -> Figure:
    """Return the grid as a figure."""
    from PIL import Image

    height, width = len(shown.rows), len(shown.columns)
    inches = 1.25 * width + 1.0
    figure, axes = new_figure(inches, 1.42 * height + 0.9, height, width)
    figure.suptitle(fill(title, int(8 * inches)), fontsize=12, fontweight="bold")
    for i, (name, tiles) in enumerate(shown.rows):
        for j, tile in enumerate(tiles):
            axis = axes[i][j]
            if tile.file is not None:
                with Image.open(tile.file) as picture:
                    axis.imshow(picture.convert("RGB"), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            for spine in axis.spines.values():
                spine.set_visible(tile.is_best)
                spine.set_color("#0072B2")
                spine.set_linewidth(2.5)
            axis.set_xlabel(tile.reward, fontsize=9, labelpad=2, weight="bold" if tile.is_best else "normal")
            if i == 0:
                axis.set_title("\n".join(shown.columns[j]), fontsize=9, loc="center")
            if j == 0:
                axis.set_ylabel(name, fontsize=10, rotation=0, ha="right", va="center")
    return figure


def scatter(board: Board) -> Figure | None:
    """Return the final samples of every series as points, for samples in the plane."""
    found = [(s, list(_points(s.dearest))) for s in board.series]
    found = [(s, points) for s, points in found if points]
    if not found:
        return None
    figure, axes = new_figure(2.6 * len(found), 2.9, 1, len(found), sharex=True, sharey=True)
    for axis, (series, points) in zip(axes[0], found, strict=True):
        x, y = zip(*points, strict=True)
        axis.scatter(x, y, s=12, alpha=0.5, color=series.colour, lw=0)
        axis.set_title(f"{series.name}\n{series.dearest.nfe:,} NFE", fontsize=9)
        axis.set_aspect("equal", "box")
    return figure


def _points(entry: Entry) -> Iterator[tuple[float, float]]:
    for sample in entry.samples:
        if sample["sample"] is not None and len(sample["sample"]) == 2:
            yield tuple(sample["sample"])


def _answers(entry: Entry) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = [row for row in entry.samples if row["is_answer"]]
    return {
        (str(row["condition"]), row["seed"], row["group"]): {**row, "folder": entry.record.folder}
        for row in rows
    }


def _tile(series: Series, row: dict[str, Any] | None, best: float | None, decimals: dict[str, int]) -> Tile:
    if row is None:
        return Tile(None, "–", "–", False)
    file = row["folder"] / row["file"] if row["file"] else None
    is_best = series.is_steered and row["reward"] is not None and row["reward"] == best
    reward, held_out = (number(row[k], decimals[k]) for k in ("reward", "held_out"))
    return Tile(file if file and file.exists() else None, reward, held_out, is_best)


def _prompt_in(condition: str) -> str:
    """The prompt in a condition that was written down as a mapping."""
    found = re.match(r"\{'prompt': (['\"])(.*?)\1[,}]", condition)
    return found[2] if found else condition


def _title(key: tuple[Any, ...], keys: list[tuple[Any, ...]]) -> str:
    """The condition where there is one, and what else tells the row from the others."""
    condition, seed, group = key
    alike = [k for k in keys if k[0] == condition]
    parts = [] if condition == "None" else [fill(_prompt_in(condition), 28)]
    if len(alike) > 1 or not parts:
        parts.append(f"seed {seed}, {group}" if len({k[1] for k in keys}) > 1 else f"seed {group}")
    return "\n".join(parts)
