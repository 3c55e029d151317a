"""One folder a run: what was asked for, what came out, and enough to go on after a kill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from itscale import __version__
from itscale.errors import ConfigError
from itscale.runs import documents, records, tasks
from itscale.runs.config import Config, differences
from itscale.runs.facts import facts
from itscale.runs.planning import CellPlan

OUTPUTS = Path("outputs")
SAMPLES, TRACE, SHARDS, CONTENTS = "samples.jsonl", "trace.jsonl", "shards.jsonl", "cells.json"
ROWS = (SAMPLES, TRACE, SHARDS)
"""Files with rows of all cells; the last one is there if particles were sharded."""
FIRST = ("lock.json", CONTENTS, "cells", "images", "env.json", "config.yaml", tasks.TASKS)
"""What a run writes before anything else; a kill may leave some of it without the configuration."""
MOST_WRITERS = 16
"""Threads that wait for the disk at once: a file system takes syncs that come together in one go."""


def choose_folder(config: Config, out: str | Path | None, resume: bool) -> Path:
    """Return the folder of a run: the one given, a new one, or the newest of this configuration.

    Raises:
        ConfigError: if there is nothing to resume.
    """
    if out is not None:
        return Path(out).expanduser()
    short = config.identity[:6]
    if resume:
        found = sorted(p for p in OUTPUTS.glob(f"{config.name}-*-{short}") if (p / "config.yaml").exists())
        if not found:
            raise ConfigError(
                f"there is no run of this configuration under {OUTPUTS}/ to resume; leave --resume out, or "
                "name the folder with --out"
            )
        return found[-1]
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = OUTPUTS / f"{config.name}-{stamp}-{short}"
    for n in range(2, 100):
        if not folder.exists():
            break
        folder = OUTPUTS / f"{config.name}-{stamp}.{n}-{short}"
    return folder


class Store:
    """Writes one run. A cell is done when its ``summary.json`` exists and no row of its samples is missing.

    Everything else may be partial: opening the folder drops the rows of cells that are not done. A task of a
    job array writes rows into a folder of its own; other files belong to one cell, or are the same from all.

    Raises:
        ConfigError: if the folder holds a run and ``resume`` is not set, or the run of other settings.
    """

    def __init__(
        self, folder: Path, config: Config, *, resume: bool, share: tasks.Share | None = None
    ) -> None:
        self.folder = folder
        self.config = config
        self.task = None if share is None else share.name
        self.rows = folder if share is None else folder / tasks.TASKS / share.name
        stated = folder / "config.yaml"
        if stated.exists():
            self._check_same(resume)
        elif folder.exists() and any(p.name.partition(".partial")[0] not in FIRST for p in folder.iterdir()):
            raise ConfigError(f"{folder} is not empty and holds no run; choose another folder")
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        (folder / "images").mkdir(exist_ok=True)
        if not stated.exists():
            records.write_json(folder / "env.json", facts(config))
            header = f"# itscale run config.yaml\n# identity: {config.identity}\n# name: {config.name}\n"
            records.write_text(stated, header + config.to_yaml())
        if share is None:
            self._reopen_incomplete()
            tasks.absorb(folder, ROWS, _drop)
        done = set(self.done())
        for name in ROWS:
            records.keep(self.rows / name, lambda row: row["cell"] in done)

    def _check_same(self, resume: bool) -> None:
        if not resume:
            raise ConfigError(
                f"{self.folder} already holds a run: resume it with --resume, or choose another --out"
            )
        text = (self.folder / "config.yaml").read_text(encoding="utf-8")
        if f"# identity: {self.config.identity}\n" in text:
            return
        theirs = documents.parse(text, "config.yaml")
        changed = differences(self.config.values, theirs if isinstance(theirs, dict) else {})
        listed = "; ".join(f"{path}: {old} there, {new} now" for path, new, old in changed[:5])
        then = self._version()
        if not changed and then != __version__:
            listed = f"it was made by itscale {then}, and this is {__version__}"
        raise ConfigError(
            f"{self.folder} holds the run of another configuration "
            f"({listed or 'a default has changed'}); resume with the same one, or choose another --out"
        )

    def _reopen_incomplete(self) -> None:
        """Take back the summary of a cell whose sample rows a damaged disk or a cut file has lost."""
        found = Counter(row["cell"] for row in tasks.read_rows(self.folder, SAMPLES))
        for key, summary in self.done().items():
            if found[key] < len(summary["groups"]) * summary["particles"]:
                (self.folder / "cells" / key / "summary.json").unlink()

    def _version(self) -> str:
        """The version of itscale that began the run."""
        try:
            return str(read_json(self.folder / "env.json")["itscale"])
        except (OSError, ValueError, KeyError):
            return "of an unknown version"

    def write_contents(self, plans: Mapping[str, CellPlan]) -> None:
        """Write what the run will hold, for those who read the folder before it is finished."""
        contents = [
            {"cell": c.key, "label": c.label, "steps": c.steps, "rows": plans[c.key].all_rows}
            for c in self.config.cells
        ]
        records.write_json(self.folder / CONTENTS, contents)

    def done(self) -> dict[str, dict[str, Any]]:
        """Return the summaries of finished cells by key."""
        return {p.parent.name: read_json(p) for p in sorted(self.folder.glob("cells/*/summary.json"))}

    def add_samples(self, rows: list[dict[str, Any]]) -> None:
        records.append(self.rows / SAMPLES, rows)

    def add_trace(self, rows: list[dict[str, Any]]) -> None:
        records.append(self.rows / TRACE, rows)

    def add_shards(self, rows: list[dict[str, Any]]) -> None:
        """Write what moves of sharded particles cost and moved from shard to shard."""
        records.append(self.rows / SHARDS, rows)

    def forget(self, key: str) -> None:
        """Remove the rows of a cell that will start again."""
        for name in ROWS:
            records.keep(self.rows / name, lambda row: row["cell"] != key)

    def cell_folder(self, key: str) -> Path:
        folder = self.folder / "cells" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish_cells(self, cells: Sequence[tuple[str, dict[str, Any], np.ndarray | None]]) -> None:
        """Write cells' arrays and, once their rows are on the disk, their summaries: key, summary, ancestors.

        The disk is waited for once for all rows, and once more for summaries, which are written side by side.
        """
        for name in ROWS:
            records.flush(self.rows / name)
        if len(cells) == 1:
            self._finish_cell(*cells[0])
            return
        with ThreadPoolExecutor(MOST_WRITERS) as writers:
            list(writers.map(lambda cell: self._finish_cell(*cell), cells))

    def _finish_cell(self, key: str, summary: dict[str, Any], ancestors: np.ndarray | None) -> None:
        folder = self.cell_folder(key)
        if ancestors is not None:
            np.savez_compressed(folder / "ancestors.npz", ancestors=ancestors)
        (folder / "failure.json").unlink(missing_ok=True)
        if self.task is not None:
            records.write_text(folder / tasks.MARK, self.task)
        records.write_json(folder / "summary.json", summary)

    def fail_cell(self, key: str, failure: dict[str, Any]) -> None:
        records.write_json(self.cell_folder(key) / "failure.json", failure)

    def log(self, text: str) -> None:
        stamp = datetime.now().isoformat(timespec="seconds")
        with (self.rows / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {text}\n")

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the run's summary, and Parquet where it can be; rows come in the order of the cells."""
        places = {cell.key: cell.index for cell in self.config.cells}
        for name in ROWS:
            records.sort(self.folder / name, lambda row: places.get(row["cell"], len(places)))
            records.write_parquet(self.folder / name)
        records.write_json(self.folder / "summary.json", summary)


def _drop(path: Path, cells: set[str]) -> None:
    records.keep(path, lambda row: row["cell"] not in cells)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
