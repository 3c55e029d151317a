"""``report``: runs as one page that needs no network, and three pictures beside it."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itscale import __version__
from itscale.errors import ConfigError, missing_extra
from itscale.runs import documents, plots, plots_molecules, plots_particles
from itscale.runs.comparison import Board, Entry, Series, board
from itscale.runs.composed import composition_lines, draw_compositions
from itscale.runs.config import load_config
from itscale.runs.curves import Curve, Curves, Point, curves, plain_curves
from itscale.runs.findings import findings, unfinished
from itscale.runs.gallery import Gallery, draw_gallery, gallery, scatter
from itscale.runs.posterior_report import has_problems, write_page
from itscale.runs.recipes import RECIPES
from itscale.runs.record import RunRecord, load_runs
from itscale.runs.records import write_json, write_text
from itscale.runs.statistics import Comparison
from itscale.runs.table import interval_text, number, signed


def report(folders: str | Path | Sequence[str | Path]) -> Path:
    """Write ``report.html``, its pictures as PNG and its curves as JSON into the (first) folder.

    Args:
        folders: one run's folder or several, which are compared; they may be unfinished.

    Returns:
        The path of the page.

    Raises:
        ConfigError: if a folder holds no run, or none of them a finished cell.
        MissingExtra: without jinja2 or matplotlib.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise missing_extra("jinja2", "report", "a report")
    import jinja2

    records = load_runs(folders)
    if not any(record.rows for record in records):
        failed = [f"{f['label']}: {f['error']}" for record in records for f in record.failures]
        why = f"; failed: {'; '.join(failed[:3])}" if failed else ""
        raise ConfigError(f"no cell of {records[0].folder} is finished, so there is nothing to report{why}")
    if has_problems(records):
        return write_page(records)
    shown = board(records)
    folder = records[0].folder
    pictures = gallery(shown)
    lines = curves(shown)
    _save_pictures(folder, shown, lines, pictures)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("itscale.runs", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(_page(records, shown, lines, pictures))
    write_json(folder / "curves.json", plain_curves(lines))
    path = folder / "report.html"
    write_text(path, page)
    return path


def _save_pictures(folder: Path, shown: Board, lines: Curves, pictures: Gallery | None) -> None:
    title = "The sample each method hands over"
    if any(row["reward"] is not None for s in shown.series for row in s.dearest.samples):
        title += ", and its reward"
    figure = draw_gallery(pictures, title) if pictures else scatter(shown)
    if figure is not None:
        figure.savefig(folder / "grid.png", dpi=130)
    plots.scaling(shown, lines).savefig(folder / "scaling.png", dpi=130)
    plots.scaling(shown, lines, "seconds").savefig(folder / "scaling-seconds.png", dpi=130)


def _page(records: list[RunRecord], shown: Board, lines: Curves, pictures: Gallery | None) -> dict[str, Any]:
    points = None if pictures else scatter(shown)
    figures = {
        "scaling": plots.scaling(shown, lines),
        "seconds": plots.scaling(shown, lines, "seconds"),
        "ess": plots_particles.effective_sizes(shown),
        "tree": plots_particles.family_tree(shown),
        "histogram": plots.histogram(shown),
        "points": points,
        "compositions": draw_compositions(shown),
        "properties": plots_molecules.property_plots(shown),
        "pareto": plots_molecules.pareto_plot(shown),
    }
    return {
        "version": __version__,
        "runs": [_run(record) for record in records],
        "findings": [*unfinished(records), *findings(shown)],
        "gallery": pictures,
        "picture": _data_address,
        "svg": {k: None if f is None else plots.to_svg(f, k) for k, f in figures.items()},
        "has_held_out": shown.has_held_out,
        "density_kind": next((e.row["density_kind"] for s in shown.series for e in s.entries), None),
        "lines": [_line(shown, s, e) for s in shown.series for e in s.entries],
        "compositions": composition_lines(shown),
        "has_reward": shown.best is not None,
        "units": lines.units,
        "points": [_point(shown, curve, point) for curve in lines.curves for point in curve.points],
    }


def _run(record: RunRecord) -> dict[str, Any]:
    rows = record.rows
    return {
        "name": record.name,
        "folder": record.folder.name,
        "description": record.config.get("description", ""),
        "command": _command(record),
        "config": documents.dump(record.config),
        "environment": record.environment,
        "finished": len(rows),
        "cells": record.cells,
        "model_rows": sum(row["model_rows"] + row["pilot_rows"] for row in rows),
        "reward_calls": sum(row["reward_calls"] for row in rows),
        "seconds": sum(row["seconds"] for row in rows),
        "warnings": record.warnings,
        "failures": record.failures,
    }


def _command(record: RunRecord) -> str:
    """The shortest command that makes this run again."""
    if record.name in RECIPES:
        try:
            now, then = load_config(record.name), load_config({**record.config})
        except ConfigError:
            return f"itscale run {record.folder.name}/config.yaml"
        if now.identity == then.identity:
            return f"itscale run {record.name}"
    return f"itscale run {record.folder.name}/config.yaml"


def _line(shown: Board, series: Series, entry: Entry) -> dict[str, Any]:
    row = entry.row
    reward, held_out, at = entry.interval("reward"), entry.interval("held_out"), shown.decimals
    return {
        "series": series,
        "row": row,
        "reward": reward,
        "reward_text": number(reward.mean, at["reward"]),
        "reward_interval": interval_text(reward, at["reward"]),
        "held_out": held_out,
        "held_out_text": number(held_out.mean, at["held_out"]),
        "held_out_interval": interval_text(held_out, at["held_out"]),
        "fell": shown.held_out_fell(entry),
        "is_best": shown.best is series and entry is series.dearest,
        "text": {k: number(row[k], at[k]) for k in ("reward_mean", "density", "diversity", "unique_eves")},
    }


def _point(shown: Board, curve: Curve, point: Point) -> dict[str, Any]:
    gain = point.gains["reward"]
    return {
        "series": curve.series,
        "rival": None if curve.rival is None or gain is None else curve.rival.name,
        "nfe": f"{point.nfe:,.0f}",
        "seconds": number(point.seconds),
        "values": {
            name: (number(value.mean, shown.decimals[name]), interval_text(value, shown.decimals[name]))
            for name, value in point.values.items()
        },
        "gains": {
            name: ("–", "–") if g is None else (signed(g.difference.mean), interval_text(g.difference))
            for name, g in point.gains.items()
        },
        "wins": "–" if gain is None else f"{gain.wins:g} of {gain.difference.groups}",
        "verdict": verdict(gain),
    }


def verdict(gain: Comparison | None) -> str:
    """Return what a paired comparison says."""
    if gain is None:
        return "–"
    gap = gain.difference
    is_clear = gap.has_width and (gap.low > 0 or gap.high < 0)
    return ("better" if gap.mean > 0 else "worse") if is_clear else "not told apart"


def _data_address(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
