"""The numbers of a run with problems: fidelity, misfit, coverage, one line per problem and method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from itscale.runs import documents
from itscale.runs.posterior import LEVELS
from itscale.runs.table import number


@dataclass(frozen=True)
class Mean:
    """A mean over truths and its standard error; NaN for a single one."""

    value: float
    error: float

    def text(self, decimals: int) -> str:
        shown = number(self.value, decimals)
        return shown if math.isnan(self.error) else f"{shown} ± {number(self.error, decimals)}"


@dataclass(frozen=True)
class Line:
    """A method on a problem, over its truths.

    Attributes:
        cells: summaries, one per truth.
    """

    problem: str
    method: str
    cells: tuple[dict[str, Any], ...]

    def mean(self, name: str) -> Mean:
        """Return the mean of one of the numbers of ``Posterior``, or of ``nfe``, ``seconds``, ``ess``."""
        return mean(_value(cell, name) for cell in self.cells)

    def coverage(self, level: float) -> Mean:
        return mean(cell["posterior"]["coverage"][str(level)] for cell in self.cells)

    @property
    def is_weighted(self) -> bool:
        return self.cells[0]["claim"]["target"] is not None


def lines(rows: Iterable[dict[str, Any]]) -> list[Line]:
    """Arrange summaries of cells with a problem: problems in order of appearance, methods within."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if "posterior" in row:
            found.setdefault((problem_label(row), row["method"]), []).append(row)
    problems = list(dict.fromkeys(problem for problem, _ in found))
    return [
        Line(problem, method, tuple(cells))
        for name in problems
        for (problem, method), cells in found.items()
        if problem == name
    ]


def posterior_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the lines as a table for a terminal; ± is one standard error over truths."""
    table = Table(title=None, header_style="bold", box=None, pad_edge=False)
    for name in ("problem", "method"):
        table.add_column(name)
    for name in ("NFE", "PSNR", "SSIM", "misfit", "sd", "ESS", "90 % holds", "seconds"):
        table.add_column(name, justify="right")
    last = None
    for line in lines(rows):
        table.add_row(
            "" if line.problem == last else line.problem,
            line.method,
            number(line.mean("nfe").value, 0),
            line.mean("psnr").text(1),
            number(line.mean("ssim").value, 2),
            number(line.mean("misfit").value),
            number(line.mean("width").value, 3),
            number(line.mean("ess").value, 1),
            line.coverage(0.9).text(2),
            number(line.mean("seconds").value, 1),
        )
        last = line.problem
    return table


def calibration(rows: Iterable[dict[str, Any]]) -> dict[str, list[Mean]]:
    """Per method, the coverage at each of ``LEVELS`` over all problems and truths.

    Cells of one seed measure the same truth and are no independent witnesses: errors are those of clusters.
    """
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "posterior" in row:
            by_method.setdefault(row["method"], []).append(row)
    return {
        method: [
            clustered_mean((truth_of(c), c["posterior"]["coverage"][str(level)]) for c in cells)
            for level in LEVELS
        ]
        for method, cells in by_method.items()
    }


def truth_of(row: dict[str, Any]) -> str:
    """What cells that measure the same truth have in common."""
    config = row["config"]
    return documents.canonical(
        {"model": config["model"], "seed": config["run"]["seed"], "steps": config["run"]["steps"]}
    )


def problem_label(row: dict[str, Any]) -> str:
    """The problem's name and the options that the sweep gave it."""
    problem = row["config"]["problem"]
    extra = [f"{k.rpartition('.')[2]} {v}" for k, v in row["swept"].items() if k.startswith("problem.")]
    extra = [text for text in extra if not text.startswith("name ")]
    return ", ".join([str(problem["name"]), *extra])


def clustered_mean(values: Iterable[tuple[str, float]]) -> Mean:
    """Mean of all values and its standard error where those of one cluster depend on one another.

    Reference:
        Liang and Zeger (1986), "Longitudinal Data Analysis Using Generalized Linear Models": the sum of
        squares of the clusters' summed residuals, times G / (G - 1) for G clusters.
    """
    clusters: dict[str, list[float]] = {}
    for name, value in values:
        if math.isfinite(value):
            clusters.setdefault(name, []).append(value)
    count, g = sum(map(len, clusters.values())), len(clusters)
    if not count:
        return Mean(math.nan, math.nan)
    m = sum(map(sum, clusters.values())) / count
    if g < 2:
        return Mean(m, math.nan)
    square = sum(sum(v - m for v in cluster) ** 2 for cluster in clusters.values())
    return Mean(m, math.sqrt(g / (g - 1) * square) / count)


def mean(values: Iterable[float | None]) -> Mean:
    """Mean and standard error of what is known."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return Mean(math.nan, math.nan)
    m = sum(known) / len(known)
    if len(known) < 2:
        return Mean(m, math.nan)
    return Mean(m, math.sqrt(sum((v - m) ** 2 for v in known) / (len(known) - 1) / len(known)))


def _value(cell: dict[str, Any], name: str) -> float | None:
    return cell["posterior"].get(name, cell.get(name))
