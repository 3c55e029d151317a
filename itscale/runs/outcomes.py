"""What one cell comes to: it is computed here, in whichever process, and written down elsewhere."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itscale.engine import Step
from itscale.pools import Pool
from itscale.runs.cells import Cell
from itscale.runs.draws import save_draws
from itscale.runs.images import save_answers
from itscale.runs.measure import measure, sample_rows, summarise, trace_rows
from itscale.runs.molecules import save_molecules
from itscale.runs.posterior import posterior, save
from itscale.sampling import sample


@dataclass(frozen=True)
class Progress:
    """One move of all particles of a cell.

    Attributes:
        rows: one per group, for the trace.
        ess: mean effective sample size over groups.
        best: highest reward among the particles; NaN before the first score.
        nfe: spent per group so far.
        pool: what a sharded pool has to say of the move.
    """

    rows: list[dict[str, Any]]
    level: int
    steps: int
    ess: float
    best: float
    nfe: int
    pool: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A finished cell.

    Attributes:
        row: its summary.
        samples: one row per final sample.
        ancestors: (moves, groups, particles), where the number of particles was constant.
    """

    row: dict[str, Any]
    samples: list[dict[str, Any]]
    ancestors: np.ndarray | None


@dataclass(frozen=True)
class Failure:
    """A cell that went wrong: one line, and the traceback where there is one."""

    error: str
    traceback: str = ""


def attempt(
    cell: Cell, folder: Path, pool: Pool | None, on_progress: Callable[[Progress], None]
) -> Outcome | Failure:
    """Compute a cell; what a model or reward raises is returned, so that it costs no other cell.

    Args:
        cell: what to compute.
        folder: of the run. Files that belong to this cell alone, such as its pictures, are written there;
            files that cells share are left to the caller.
        pool: where to compute, in place of the configuration's ``pool``.
        on_progress: called after every move.
    """
    try:
        return _compute(cell, folder, pool, on_progress)
    except Exception as problem:  # anything at all may come out of a user's reward
        return Failure(f"{type(problem).__name__}: {problem}", traceback.format_exc())


def _compute(cell: Cell, folder: Path, pool: Pool | None, on_progress: Callable[[Progress], None]) -> Outcome:
    def on_step(step: Step) -> None:
        ess = float(step.ess.mean())
        rows = trace_rows(cell, step)
        on_progress(Progress(rows, step.level, step.steps, ess, step.best_reward, step.nfe, step.pool))

    result = sample(
        cell.model.load(),
        reward=cell.reward(),
        held_out=cell.reward("held_out"),
        method=cell.method,
        process=cell.process,
        solver=cell.solver,
        value=cell.value,
        grid=cell.run.grid,
        steps=cell.run.steps,
        tilt=cell.run.tilt,
        condition=cell.conditions,
        guidance=cell.model.guidance,
        budget=cell.run.budget,
        groups=cell.groups,
        seed=cell.run.seed,
        pool=pool or cell.pool,
        on_step=on_step,
        initial=cell.template,
    )
    measured = measure(cell, result)
    files = save_answers(folder, cell, result, measured)
    save_draws(folder, cell, result)
    if result.modality == "molecule":
        save_molecules(folder, cell, result)
    if cell.run.save:
        result.save(folder / "cells" / cell.key)
    row = summarise(cell, result, measured)
    if cell.measured is not None:
        found = posterior(result, cell.measured)
        save(folder, cell.key, found, cell.measured)
        row["posterior"] = found.numbers
    ancestors = None if result.ancestors is None else result.ancestors.int().numpy()
    return Outcome(row, sample_rows(cell, result, measured, files), ancestors)
