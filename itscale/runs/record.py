"""A finished or unfinished run, read back from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from itscale.errors import ConfigError
from itscale.runs import documents
from itscale.runs.store import CONTENTS, SAMPLES, TRACE, read_json
from itscale.runs.tasks import read_rows


@dataclass(frozen=True)
class RunRecord:
    """What one folder holds.

    Attributes:
        rows: summaries of finished cells, in the order of the configuration.
        cells: how many the run has, finished or not.
        failures: cells that failed and were not finished since.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    environment: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    failures: tuple[dict[str, Any], ...]
    cells: int

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """One row per final sample of a finished cell."""
        return self._of_finished(SAMPLES)

    @cached_property
    def trace(self) -> list[dict[str, Any]]:
        """One row per move and group of a finished cell."""
        return self._of_finished(TRACE)

    def ancestors(self, key: str) -> np.ndarray | None:
        """Return a cell's ancestors (moves, groups, particles), if its number of particles was constant."""
        path = self.folder / "cells" / key / "ancestors.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["ancestors"]

    @property
    def warnings(self) -> list[str]:
        """What readers of the numbers should know, each once, with the cells it is about."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for text in row["warnings"]:
                found.setdefault(text, []).append(row["label"])
        return [f"{text} ({'; '.join(labels)})" for text, labels in found.items()]

    def _of_finished(self, name: str) -> list[dict[str, Any]]:
        finished = {row["cell"] for row in self.rows}
        return [row for row in read_rows(self.folder, name) if row["cell"] in finished]


def load_run(folder: str | Path) -> RunRecord:
    """Read the folder of a run, finished or not.

    Raises:
        ConfigError: if it holds no run.
    """
    folder = Path(folder)
    stated = folder / "config.yaml"
    if not stated.exists():
        held = sorted(p.name for p in folder.glob("*"))[:6] if folder.is_dir() else "no such folder"
        raise ConfigError(f"{folder} holds no run: expected config.yaml, found {held}")
    text = stated.read_text(encoding="utf-8")
    name = next((line[8:] for line in text.splitlines() if line.startswith("# name: ")), folder.name)
    rows = [read_json(p) for p in folder.glob("cells/*/summary.json")]
    done = {row["cell"] for row in rows}
    failures = [read_json(p) for p in sorted(folder.glob("cells/*/failure.json"))]
    return RunRecord(
        folder,
        name,
        documents.parse(text, "config.yaml"),
        read_json(folder / "env.json") if (folder / "env.json").exists() else {},
        tuple(sorted(rows, key=lambda row: row["index"])),
        tuple(f for f in failures if f["cell"] not in done),
        len(read_json(folder / CONTENTS)) if (folder / CONTENTS).exists() else len(rows) + len(failures),
    )


def load_runs(folders: str | Path | Sequence[str | Path]) -> list[RunRecord]:
    """Read one folder or several."""
    if isinstance(folders, str | Path):
        folders = [folders]
    if not folders:
        raise ConfigError("a report needs at least one folder of a run")
    return [load_run(folder) for folder in folders]
