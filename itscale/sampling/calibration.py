"""``calibrate``: base trajectories once, for every later run of the same model, reward and grid."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any, Literal

from itscale.errors import ConfigError
from itscale.methods import Profile
from itscale.models.base import Model
from itscale.models.guidance import GuidanceLike
from itscale.pools import Pool
from itscale.preparation import prepare
from itscale.process import ODE, SDE
from itscale.sampling.entry import sample
from itscale.sampling.inputs import one_per_group
from itscale.sampling.pilots import PILOT_SPREAD, Recorder, recorded
from itscale.sampling.projection import with_projection
from itscale.sampling.shipped import process_text
from itscale.scoring import as_reward
from itscale.solvers import Solver
from itscale.values import Value


def calibrate(
    model: Model,
    reward: Any = None,
    *,
    condition: Any = None,
    groups: int = 8,
    trajectories: int = 16,
    fit: Literal["slope", "kl"] = "slope",
    spread: float = PILOT_SPREAD,
    steps: int = 50,
    process: ODE | SDE | None = None,
    solver: str | Solver | None = None,
    grid: Any = "native",
    value: str | Value = "denoised",
    tilt: float = 1.0,
    guidance: GuidanceLike = 1.0,
    seed: int = 0,
    pool: Pool | None = None,
) -> Profile:
    """Measure how well early denoised samples predict final ones, and their rewards the final reward.

    Args:
        model, reward, condition, process, solver, grid, value, guidance, pool: as for ``sample``; without a
            reward only the model is profiled.
        tilt: that of the runs that will use it, for values that depend on it.
        groups: how many conditions (or seeds) to pool; several conditions are better than one.
        trajectories: of each; 4 are nearly enough, 16 are good; 256 for ``fit="kl"``.
        fit: where exponents come from. ``"slope"``: half the slope of the final on the early reward, half a
            ramp. ``"kl"``: also two rounds of SMC, 800 particles of each group, to whose paths the exponents
            are fitted. Better for rewards with several peaks under a sharp tilt; worse than nothing if made
            from few trajectories.
        spread: tilt times the reward's standard deviation that ``fit="kl"`` is for. It is lowered where
            unguided trajectories do not reach (``profile.fitted_at``).
        steps: those of the runs that will use it; other grids are interpolated.

    Returns:
        A ``Profile``; ``profile.save("file.json")`` keeps it for ``methods.CTS(profile="file.json")``.

    Raises:
        ConfigError: if the reward does not vary, or ``fit="kl"`` has too few trajectories.
    """
    if groups < 1 or trajectories < 2:
        raise ConfigError(
            f"calibration needs groups >= 1 and trajectories >= 2, got {groups} and {trajectories}"
        )
    if fit not in ("slope", "kl"):
        raise ConfigError(f"fit must be 'slope' or 'kl', got {fit!r}")
    if not 0 < spread < math.inf:
        raise ConfigError(f"spread must be > 0, tilt times the reward's standard deviation, got {spread!r}")
    scorer = None if reward is None else as_reward(reward)
    if fit == "kl" and scorer is None:
        raise ConfigError("fit='kl' fits exponents of a reward; give reward=, or use fit='slope'")
    setup = prepare(
        model,
        reward=scorer,
        method=Recorder(particles=trajectories),
        steps=steps,
        process=process,
        solver=solver,
        grid=grid,
        guidance=guidance,
    )
    draw = functools.partial(
        sample,
        model,
        reward=scorer,
        steps=steps,
        process=process,
        solver=solver,
        grid=grid,
        value=value,
        tilt=tilt,
        guidance=guidance,
        seed=seed,
        pool=pool,
    )
    conditions = one_per_group(condition, groups)
    seen = recorded(draw, list(range(groups)), conditions, trajectories, scored=scorer is not None)
    profile = seen.profile()
    if fit == "kl":
        profile, _ = with_projection(profile, draw, seen, conditions, spread)
    return replace(
        profile,
        reward="" if scorer is None else scorer.name,
        model=type(model).__name__,
        process=process_text(setup.process),
    )
