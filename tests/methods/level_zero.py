"""Grids that begin late, where the first denoised sample depends on the noise, and exact laws on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import itscale
import itscale.preparation
from itscale.scoring import Reward
from tests.solvers.drive import looker

START, STEPS, TILT = 0.4, 5, 2.0


@dataclass(frozen=True)
class Late:
    """``steps`` equal intervals from ``start``: the run begins with N(0, sigma(start)^2 I) there."""

    start: float = START

    def __call__(self, interpolant: Any, steps: int, t_start: float = 0.0) -> Tensor:
        return torch.linspace(self.start, 1.0, steps + 1, dtype=torch.float64)


def first(vectors: Tensor) -> Tensor:
    return vectors[:, 0]


def bend(vectors: Tensor) -> Tensor:
    """A reward with a kink in its slope: no step follows it exactly."""
    return torch.tanh(2 * vectors[:, 0]) + 0.3 * vectors[:, 0]


def smooth(function: Any) -> Reward:
    return Reward.of(function, name=function.__name__, modality="vector", differentiable=True)


@dataclass(frozen=True)
class Truth:
    """Exact answers for a reward of a model on the line, up to quadrature.

    Attributes:
        points, density: of the tilted law at level 0, normalised over the points.
        log_z: of the whole run.
        expected_reward: under its tilted law.
    """

    points: Tensor
    density: Tensor
    log_z: float
    expected_reward: float


def truth(model: Any, reward: Any, points: int = 2001, width: float = 9.0) -> Truth:
    """Push a density on a fine grid through the transitions of the ancestral sampler."""
    setup = itscale.preparation.prepare(
        model, process=itscale.SDE(), solver="ancestral", steps=STEPS, grid=Late()
    )
    look = looker(setup.process, setup.times)
    s = float(setup.process.interpolant.sigma(START))
    x = torch.linspace(-width, width, points, dtype=torch.float64)
    density = torch.exp(-((x / s) ** 2) / 2)
    start = density / density.sum()
    law = start
    for level in range(STEPS - 1):
        move = setup.kernel(look(x[:, None], level), (), level, look, None)
        assert isinstance(move.std, float)
        jump = torch.exp(-(((x[None] - move.x) / move.std) ** 2) / 2)
        law = law @ (jump / jump.sum(1, keepdim=True))
    ends = look(x[:, None], STEPS - 1).denoised
    weight = law * (TILT * reward(ends)).exp()
    tilted = start * (TILT * reward(look(x[:, None], 0).denoised)).exp()
    return Truth(
        x,
        tilted / tilted.sum(),
        float(weight.sum().log()),
        float((weight * reward(ends)).sum() / weight.sum()),
    )


def draws(exact: Truth, count: int, seed: int = 0) -> Tensor:
    """Exact draws of the tilted law at level 0, to the distance of the points."""
    u = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    edges = exact.density.cumsum(0)
    index = torch.searchsorted(edges, u).clamp(max=len(edges) - 1)
    before = torch.where(index > 0, edges[index - 1], 0.0)
    share = (u - before) / exact.density[index]
    return exact.points[index] + (share - 0.5) * (exact.points[1] - exact.points[0])
