"""Exponents by projection: at every level, the power of the reward that comes nearest to the tilted law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.budget import Spent
from itscale.engine import Engine, Step
from itscale.errors import ConfigError
from itscale.methods import Profile
from itscale.methods.twisted import TwistedSMC, TwistedState
from itscale.particles import effective_sample_size
from itscale.sampling.pilots import Draw, Trajectories

PARTICLES, RUNS, ROUNDS = 200, 4, 2
FEWEST = 10  # effective trajectories of a group, below which its tilted law is out of their reach
HIGHEST, LONGEST, DAMPING = 1.2, 0.3, 0.01


@dataclass(frozen=True, kw_only=True)
class RecordedSMC(TwistedSMC):
    """Twisted SMC in which every particle carries the rewards of its own path, (g, n, steps)."""

    def _seen(self, engine: Engine, state: TwistedState) -> TwistedState:
        state = super()._seen(engine, state)
        p = state.particles
        nothing = torch.full((*p.reward.shape, engine.steps), torch.nan, dtype=torch.float64)
        rewards = p.carry.get("rewards", nothing).clone()
        rewards[..., int(p.level[0, 0])] = p.reward
        return replace(state, particles=replace(p, carry={**p.carry, "rewards": rewards}))


@dataclass(frozen=True)
class Paths:
    """Weighted paths of one group: values relative to the mean final one, (n, steps), and weights (n,)."""

    value: Float64[Tensor, "n steps"]
    weight: Float64[Tensor, " n"]

    def mean(self) -> Float64[Tensor, " steps"]:
        return self.weight @ self.value


def with_projection(
    profile: Profile, draw: Draw, seen: Trajectories, conditions: list[Any], spread: float
) -> tuple[Profile, Spent]:
    """Add fitted exponents to a profile.

    Two rounds of SMC with the exponents so far sample the tilted law of every group; then ``a_k`` minimises
    the divergence of the laws that their paths have at level k from ``p_k exp(a_k tilt r(D))``, summed over
    groups. The divergence is convex in ``a_k``: Newton's method, on means over the unguided trajectories.

    Args:
        seen: the unguided trajectories of the profile, all groups alike in number.
        spread: tilt times the reward's standard deviation to fit at. It is lowered until ten trajectories of
            every group count, for what they do not reach they cannot tell.

    Raises:
        ConfigError: if the groups have fewer than ten trajectories each.
    """
    final = seen.rewards[..., -1]
    centred = seen.rewards - torch.where(final.isfinite(), final, torch.nan).nanmean(1)[:, None, None]
    scale = centred[..., -1].square().nanmean(1).sqrt()
    used = [g for g in range(len(scale)) if scale[g] > 0]
    base = [_clean(centred[g] / scale[g], torch.zeros(centred.shape[1]).double()) for g in used]
    spread = _reachable(base, spread)
    base = [Paths(spread * paths.value, paths.weight) for paths in base]
    exponents, spent = torch.tensor(profile.exponents(), dtype=torch.float64), Spent.nothing()
    for _ in range(ROUNDS):
        tilted = []
        for g in used:
            steps: list[Step] = []
            run = draw(
                method=RecordedSMC(
                    particles=PARTICLES, ess_threshold=0.9, tempering=tuple(exponents.tolist())
                ),
                condition=conditions[g],
                groups=[len(scale) + RUNS * g + i for i in range(RUNS)],
                tilt=spread / float(scale[g]),
                on_step=steps.append,
            )
            p = steps[-1].particles
            centre = final[g][final[g].isfinite()].mean()
            value = spread / scale[g] * (p.carry["rewards"] - centre)
            # runs count by their evidence
            tilted.append(_clean(value.flatten(0, 1), (p.log_weights + p.log_evidence[:, None]).flatten()))
            spent = spent + run.spent
        exponents = projected(base, tilted, exponents)
    nfe = profile.nfe + spent.total("nfe")
    return replace(profile, fitted=tuple(exponents.tolist()), fitted_at=spread, nfe=nfe), spent


def projected(
    base: Sequence[Paths], tilted: Sequence[Paths], start: Float64[Tensor, " steps"]
) -> Float64[Tensor, " steps"]:
    """Solve ``sum_s E_base,s[f e^(a f)] / E_base,s[e^(a f)] + 0.01 a = sum_s E_tilted,s[f]`` level by level.

    Steps of Newton are at most 0.3 long, exponents in [0, 1.2]; the last is 1.
    """
    aim = sum(paths.mean() for paths in tilted)
    a = start.clone()
    for _ in range(60):
        slope, curvature = DAMPING * a, torch.full_like(a, DAMPING)
        for paths in base:
            weight = torch.softmax(a * paths.value + paths.weight.log()[:, None], dim=0)
            mean = (weight * paths.value).sum(0)
            slope = slope + mean
            curvature = curvature + (weight * (paths.value - mean).square()).sum(0)
        a = (a - ((slope - aim) / curvature).clamp(-LONGEST, LONGEST)).clamp(0, HIGHEST)
    a[-1] = 1.0
    return a


def _clean(value: Float64[Tensor, "n steps"], log_weights: Float64[Tensor, " n"]) -> Paths:
    """Paths with a reward at every look."""
    known = value.isfinite().all(1)
    return Paths(value[known], torch.softmax(log_weights[known], 0))


def _reachable(base: Sequence[Paths], spread: float) -> float:
    """The largest spread up to the wanted one at which the trajectories of every group still count."""

    def fewest(at: float) -> float:
        return min(float(effective_sample_size(at * paths.value[:, -1])) for paths in base)

    if fewest(0.0) < FEWEST:
        raise ConfigError(
            f"fit='kl' needs at least {FEWEST} trajectories with rewards in every group, and one has "
            f"{fewest(0.0):.0f}; 256 are good, and with few fit='slope' is better"
        )
    low, high = 0.0, spread
    if fewest(high) >= FEWEST:
        return high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if fewest(middle) >= FEWEST else (low, middle)
    return low
