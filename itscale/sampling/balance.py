"""Whether weighted particles of a composition are where its law is: an identity that holds for any law.

For a density p with score S in d dimensions, ``E[d + <x, S>] = 0`` (the virial). The weights' rate knows S
anyway, so the weighted mean is free. It is off where the law lies beyond all particles, as large and
negative exponents can put it: weights then prefer the outermost particles, whose scores all point outwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from itscale.engine import Particles
from itscale.particles import effective_sample_size, normalise

OFF, SURE, SETTLED = 0.5, 8.0, 0.1
"""The virial per dimension, in standard errors, and the time from which it counts: before it, particles are
still settling after a start that is normal, as the law is not quite."""
SHARE = 0.05  # of levels at which a group may be off
STEEP, STEEP_SHARE = (
    2.0,
    0.01,
)  # change of a log-weight within a step, and the share of particles that may have it


def balance(p: Particles, dimension: int) -> dict[str, Any]:
    """Return what a level tells of a composition's weights, per group; nothing for other processes."""
    if "virial" not in p.carry:
        return {}
    weights = normalise(p.log_weights)
    virial, gained = p.carry["virial"], p.carry["gained"]
    mean = (weights * virial).sum(dim=1)  # over particles
    spread = (weights * (virial - mean[:, None]) ** 2).sum(dim=1).sqrt()
    error = spread / effective_sample_size(p.log_weights).sqrt()
    apart = gained - (weights * gained).sum(dim=1, keepdim=True)
    return {
        "virial": (mean / dimension).tolist(),
        "virial_error": (error / dimension).tolist(),
        "increment_std": (weights * apart**2).sum(dim=1).sqrt().tolist(),
        "steep": (apart.abs() > STEEP).double().mean(dim=1).tolist(),
    }


def warnings_of(trace: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a reader of the samples should know of the run's weights."""
    rows = [row for row in trace[:-1] if "virial" in row]
    if not rows:
        return []
    virial, error, steep = (
        torch.tensor([row[name] for row in rows], dtype=torch.float64)
        for name in ("virial", "virial_error", "steep")
    )
    times = torch.tensor([row["t"] for row in rows], dtype=torch.float64)
    settled = times[:, None] > SETTLED
    off = settled & (virial.abs() > OFF) & (virial.abs() > SURE * error)
    found = []
    if groups := _often(off, SHARE):
        first = float(times[off.any(dim=1)][0])
        largest = float(virial.abs()[off].max())
        found.append(
            f"weighted particles of groups {groups} do not follow the composition from t = {first:.2g} on: "
            f"the mean of 1 + <x, S>/d, zero under its law, is off by up to {largest:.2g}. It may lie where "
            "no particle goes; use smaller or less negative exponents, more particles, or more steps"
        )
    steep_levels = steep > STEEP_SHARE
    if groups := _often(steep_levels, SHARE):
        count = int(steep_levels.sum(dim=0).max())
        found.append(
            f"log-weights of groups {groups} changed by more than {STEEP:g} within a step at up to {count} "
            f"of {len(rows)} steps; use more steps, or exponents closer to one expert's"
        )
    return found


def _often(bad: torch.Tensor, share: float) -> list[int]:
    """Groups for which something holds at more than a share of levels, and at two at least."""
    counts = bad.sum(dim=0)
    return (counts >= max(2, share * len(bad))).nonzero().flatten().tolist()
