"""Samples of a composition beside those of the same drift without weights, kept for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itscale.result import Result
from itscale.runs.cells import Cell

PICTURES, POINTS = 10, 500
FILE = "draws.npz"


def save_draws(folder: Path, cell: Cell, result: Result) -> None:
    """Write a few samples drawn by weight, and uncorrected ones, into a cell's folder: pictures or points."""
    if not cell.model.is_composition or not _is_shown(result):
        return
    drawn = {"corrected" if is_corrected(cell) else "uncorrected": _few(result.resample(), result.modality)}
    if result.uncorrected is not None:
        drawn["uncorrected"] = _few(result.uncorrected, result.modality)
    target = folder / "cells" / cell.key
    target.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target / FILE, **{name: x.numpy() for name, x in drawn.items()})  # type: ignore[arg-type]


def load_draws(folder: Path, key: str) -> dict[str, np.ndarray]:
    """Return what was kept of a cell by ``"corrected"`` and ``"uncorrected"``; empty where nothing was."""
    path = folder / "cells" / key / FILE
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def is_corrected(cell: Cell) -> bool:
    """Whether the samples of a cell are weighted for its law: all but those of unguided products."""
    return cell.model.name != "product" or cell.method.claim.target != "base"


def facts_of(cell: Cell, result: Result) -> dict[str, Any] | None:
    """What the table of compositions shows of a cell, plain values; None for other models."""
    if not cell.model.is_composition:
        return None
    rows = result.trace
    return {
        "law": str(cell.model.load()),
        "is_corrected": is_corrected(cell),
        "least_ess": [min(row["ess"][g] for row in rows) for g in range(result.groups)],
        "largest_weight": [max(row["largest_weight"][g] for row in rows) for g in range(result.groups)],
        "virial": [row["virial"] for row in rows[:-1] if "virial" in row][-1:] or None,
    }


def _is_shown(result: Result) -> bool:
    if result.modality == "image":
        return result.samples.shape[2] in (1, 3)
    return result.samples[0, 0].numel() in (1, 2)


def _few(samples: Tensor, modality: str) -> Tensor:
    """Some samples (g, n, ...) of all groups, evenly."""
    flat = samples.flatten(0, 1)
    count = min(len(flat), PICTURES if modality == "image" else POINTS)
    return flat[torch.linspace(0, len(flat) - 1, count).round().long()]
