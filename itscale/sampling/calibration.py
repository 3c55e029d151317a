"""``calibrate``: base trajectories once, for every later run of the same model, reward and grid."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from itscale.errors import ConfigError
from itscale.methods import Profile
from itscale.models.base import Model
from itscale.pools import Pool
from itscale.process import ODE, SDE
from itscale.sampling.entry import sample
from itscale.sampling.inputs import one_per_group
from itscale.sampling.pilots import reward_profile
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
    steps: int = 50,
    process: ODE | SDE | None = None,
    solver: str | Solver | None = None,
    grid: Any = "uniform",
    value: str | Value = "denoised",
    tilt: float = 1.0,
    guidance: float = 1.0,
    seed: int = 0,
    pool: Pool | None = None,
) -> Profile:
    """Measure how well early denoised samples predict final ones, and their rewards the final reward.

    Args:
        model, reward, condition, process, solver, grid, value, guidance, pool: as for ``sample``; without a
            reward only the model is profiled.
        tilt: that of the runs that will use it, for values that depend on it.
        groups: how many conditions (or seeds) to pool; several conditions are better than one.
        trajectories: of each; 4 are nearly enough, 16 are good.
        steps: those of the runs that will use it; other grids are interpolated.

    Returns:
        A ``Profile``; ``profile.save("file.json")`` keeps it for ``methods.CTS(profile="file.json")``.

    Raises:
        ConfigError: if the reward does not vary.
    """
    if groups < 1 or trajectories < 2:
        raise ConfigError(
            f"calibration needs groups >= 1 and trajectories >= 2, got {groups} and {trajectories}"
        )
    scorer = None if reward is None else as_reward(reward)
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
    profile, _ = reward_profile(
        draw, list(range(groups)), conditions, trajectories, scored=scorer is not None
    )
    return replace(profile, reward="" if scorer is None else scorer.name, model=type(model).__name__)
