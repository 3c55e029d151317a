"""The page of a run with problems: truth, measurement and posteriors side by side, and a calibration plot."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itscale import __version__
from itscale.operators.perceptual import find_lpips
from itscale.runs import documents, plots
from itscale.runs.comparison import MARKERS, PALETTE
from itscale.runs.posterior import LEVELS
from itscale.runs.posterior_table import Line, Mean, calibration, lines, truth_of
from itscale.runs.record import RunRecord
from itscale.runs.records import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TRUTHS = 2
"""Truths of a problem that are shown; the numbers are over all of them."""


def has_problems(records: list[RunRecord]) -> bool:
    """Whether the cells of runs are inverse problems."""
    return any("posterior" in row for record in records for row in record.rows)


def write_page(records: list[RunRecord]) -> Path:
    """Write ``report.html`` and its pictures into the first folder."""
    import jinja2

    rows = [row for record in records for row in record.rows]
    homes = {row["cell"]: record.folder for record in records for row in record.rows}
    folder, found = records[0].folder, lines(rows)
    pictures = []
    for problem in dict.fromkeys(line.problem for line in found):
        figure = posterior_grid([line for line in found if line.problem == problem], homes)
        slug = problem.replace(" ", "-").replace(",", "")
        figure.savefig(folder / f"posterior-{slug}.png", dpi=110)
        pictures.append({"problem": problem, "address": _address(figure)})
    curve = calibration_plot(calibration(rows))
    curve.savefig(folder / "calibration.png", dpi=130)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("itscale.runs", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("posterior.html.j2").render(
        version=__version__,
        runs=records,
        config=[documents.dump(record.config) for record in records],
        pictures=pictures,
        lines=[_plain(line) for line in found],
        levels=[f"{level:.0%}" for level in LEVELS],
        truths=len({truth_of(row) for row in rows if "posterior" in row}),
        no_lpips=_why_no_lpips(found),
        calibration=plots.to_svg(curve, "calibration"),
        warnings=[text for record in records for text in record.warnings],
        failures=[failure for record in records for failure in record.failures],
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _why_no_lpips(found: list[Line]) -> str:
    """What is missing for LPIPS, in one line; empty where it was computed."""
    if any(cell["posterior"].get("lpips") is not None for line in found for cell in line.cells):
        return ""
    look = find_lpips()
    return look if isinstance(look, str) else "it was not there when the run was made"


def posterior_grid(found: list[Line], homes: dict[str, Path]) -> Figure:
    """Rows: mean, standard deviation and two draws of every method, below truth and measurement, per
    truth."""
    seeds = list(dict.fromkeys(cell["config"]["run"]["seed"] for cell in found[0].cells))[:MOST_TRUTHS]
    height, width = 1 + len(found), 4 * len(seeds)
    figure, axes = plots.new_figure(1.15 * width + 1.6, 1.2 * height + 0.4, height, width)
    for axis in axes.flat:
        axis.axis("off")
    for s, seed in enumerate(seeds):
        for i, line in enumerate(found):
            cell = next((c for c in line.cells if c["config"]["run"]["seed"] == seed), None)
            if cell is None:
                continue
            with np.load(homes[cell["cell"]] / "cells" / cell["cell"] / "posterior.npz") as maps:
                if i == 0:
                    _show(axes[0][4 * s], maps["truth"], "truth")
                    seen = maps["seen"]
                    _show(axes[0][4 * s + 1], seen, "measured", top=max(1.0, float(seen.max())))
                draws = maps["draws"]
                _show(axes[i + 1][4 * s], maps["mean"], "mean" if i == 0 else "")
                _show(axes[i + 1][4 * s + 1], maps["std"], "sd" if i == 0 else "", top=0.4)
                _show(axes[i + 1][4 * s + 2], draws[0], "draw" if i == 0 else "")
                _show(axes[i + 1][4 * s + 3], draws[-1], "draw" if i == 0 else "")
            if s == 0:
                label = f"{line.method}\n{cell['nfe']:,} NFE"
                axes[i + 1][0].text(
                    -0.08, 0.5, label, transform=axes[i + 1][0].transAxes, ha="right", va="center"
                )
    return figure


def calibration_plot(found: dict[str, list[Mean]]) -> Figure:
    """How often intervals of the truth's projections hold, against how often they should; ± 2 standard
    errors."""
    figure, axes = plots.new_figure(7.4, 4.4)
    axis = axes[0][0]
    middle = (len(found) - 1) / 2
    axis.plot([0, 1], [0, 1], color="#888888", lw=1, label="calibrated")
    for k, (method, values) in enumerate(found.items()):
        turn, colour = divmod(k, len(PALETTE))
        axis.errorbar(
            [level + 0.003 * (k - middle) for level in LEVELS],  # beside one another
            [v.value for v in values],
            yerr=[0.0 if np.isnan(v.error) else 2 * v.error for v in values],
            color=PALETTE[colour],
            marker=MARKERS[(k + turn) % len(MARKERS)],
            ls="--" if turn else "-",
            lw=1.5,
            capsize=2,
            label=method,
        )
    axis.set(
        xlim=(0.4, 1.0), ylim=(0, 1.02), xlabel="probability stated", ylabel="share that holds the truth"
    )
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _show(axis: Any, image: np.ndarray, title: str, top: float = 1.0) -> None:
    picture = image.transpose(1, 2, 0) if image.shape[0] == 3 else image[0]
    if picture.shape[0] == 1:  # numbers, not pixels: as a strip
        picture = np.repeat(picture, 6, axis=0)
    axis.imshow(np.clip(picture, 0, top) / top, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if title:
        axis.set_title(title, fontsize=9)


def _address(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _plain(line: Line) -> dict[str, Any]:
    return {
        "problem": line.problem,
        "method": line.method,
        "target": line.cells[0]["claim"]["target"] or "none",
        "truths": len(line.cells),
        "nfe": f"{line.mean('nfe').value:,.0f}",
        "psnr": line.mean("psnr").text(1),
        "psnr_draw": line.mean("psnr_draw").text(1),
        "ssim": line.mean("ssim").text(2),
        "lpips": line.mean("lpips").text(3),
        "misfit": line.mean("misfit").text(2),
        "width": line.mean("width").text(3),
        "ess": line.mean("ess").text(1),
        "coverage": [line.coverage(level).text(2) for level in LEVELS],
        "seconds": line.mean("seconds").text(1),
    }
