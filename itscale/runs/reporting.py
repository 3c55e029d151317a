"""``report``: one self-contained page from the folders of runs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from itscale.errors import missing_extra
from itscale.runs import plots
from itscale.runs.record import RunRecord, load_runs
from itscale.runs.statistics import interval
from itscale.runs.table import interval_text, number

COLUMNS = (
    "cell",
    "NFE",
    "reward of answer",
    "95 % interval",
    "mean of set",
    "held-out",
    "diversity",
    "density",
    "target",
    "reward calls",
    "seconds",
)


def report(folders: str | Path | Sequence[str | Path]) -> Path:
    """Write ``report.html``, ``grid.png`` and ``scaling.png`` into the first folder; return the page.

    Raises:
        ConfigError: if a folder holds no run.
        MissingExtra: without jinja2 or matplotlib.
    """
    runs = load_runs(folders)
    try:
        import jinja2
    except ImportError:
        raise missing_extra("jinja2", "report", "the report") from None
    template = files("itscale.runs").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True).from_string(template)
    text = page.render(runs=[_view(run) for run in runs], columns=COLUMNS)
    path = runs[0].folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def _view(run: RunRecord) -> dict[str, Any]:
    pictures = []
    for name, title, draw in (
        ("grid.png", "What each method hands over", plots.answers_grid),
        ("scaling.png", "Reward against compute", plots.scaling),
        (None, "Rewards of all final samples", plots.histogram),
        (None, "Effective sample size over time", plots.sample_sizes),
        (None, "Ancestry", plots.ancestor_tree),
    ):
        made = draw(run) if run.rows else None
        if made is not None:
            pictures.append((title, _uri(made, run.folder / name if name else None)))
    notes = [*run.warnings, *_gaps(run)]
    return {
        "name": run.name,
        "folder": run.folder.name,
        "description": run.config.get("description", ""),
        "table": [_line(row) for row in run.rows],
        "pictures": pictures,
        "failures": run.failures,
        "notes": notes,
        "config": yaml.safe_dump(run.config, sort_keys=False),
        "environment": yaml.safe_dump(run.environment, sort_keys=False),
        "density": next((r["density_kind"] for r in run.rows if r.get("density_kind")), None),
    }


def _line(row: dict[str, Any]) -> list[str]:
    reward = interval(row["per_group"]["reward"])
    return [
        row["label"],
        str(row["nfe"]),
        number(row["reward"]),
        interval_text(reward),
        number(row["reward_mean"]),
        number(row["held_out"]),
        number(row["diversity"]),
        number(row["density"]),
        row["claim"]["target"] or "search",
        str(row["reward_calls"]),
        f"{row['seconds']:.1f}",
    ]


def _gaps(run: RunRecord) -> list[str]:
    """Say where the steered reward rose above unguided sampling while the held-out reward fell."""
    base = next((r for r in run.rows if not r["is_steered"]), None)
    if base is None or base["held_out"] is None or base["reward"] is None:
        return []
    return [
        f"{row['label']}: the steered reward rose from {number(base['reward'])} to {number(row['reward'])} "
        f"while the held-out reward fell from {number(base['held_out'])} to {number(row['held_out'])}"
        for row in run.rows
        if row["is_steered"]
        and row["held_out"] is not None
        and row["reward"] > base["reward"]
        and row["held_out"] < base["held_out"]
    ]


def _uri(made: Any, path: Path | None) -> str:
    buffer = io.BytesIO()
    made.savefig(buffer, format="png")
    if path is not None:
        path.write_bytes(buffer.getvalue())
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
