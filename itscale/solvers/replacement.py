"""Moves whose measured coordinates follow a given noisy path: SMCDiff."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Kernel, Look, Move, Surroundings
from itscale.solvers.projections import MeasuredMove


def _no_look(*_: object) -> Evaluation:
    raise AssertionError("a memoryless Gaussian transition needs no look inside its move")


@dataclass(frozen=True, eq=False)
class FollowPath(MeasuredMove):
    """The base move, its measured coordinates replaced by those of its group's path; blind at the start.

    Attributes:
        path: (groups, levels + 1, m) float64, measured coordinates of states; the last is the measurement.
        base: the sampler's own kernel, Gaussian and without memory.
        group: of the rows at hand.
    """

    path: Tensor | None = None
    base: Kernel | None = None
    group: Tensor | None = None

    def placed(self, around: Surroundings) -> FollowPath:
        return replace(self, decode=around.decode, group=around.group)

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        assert self.base is not None
        move = self.base(at, (), level, _no_look, z)
        v, o = self.measured(move.x)
        return Move(self.replaced(v, self.on_path(level + 1, o)))

    def predictive(self, at: Evaluation, level: int) -> Tensor:
        """``log N(path; mean, v)`` of the move ahead, (rows,) float64."""
        assert self.base is not None
        move = self.base(at, (), level, _no_look, None)
        assert isinstance(move.std, float)
        _, o = self.measured(move.x)
        o = o.double()
        e, v = self.on_path(level + 1, o) - o, move.std**2
        return -(e.square() / v + math.log(2 * math.pi * v)).sum(1) / 2

    def on_path(self, level: int, like: Tensor) -> Tensor:
        """The path of the rows' groups at a level, (rows, m)."""
        assert self.path is not None
        assert self.group is not None, "a move along a path is placed where rows live"
        return self.path[self.group, level].to(like)


@dataclass(frozen=True, eq=False)
class Begin(FollowPath):
    """Put states on the path where they are; they need no look before it."""

    is_blind: bool = True

    def is_noisy(self, level: int) -> bool:
        return False

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        v, o = self.measured(at.x)
        return Move(self.replaced(v, self.on_path(level, o)))


def noised_path(value: Tensor, alpha: Tensor, sigma: Tensor, normal: Tensor) -> Tensor:
    """Noise measured coordinates backwards from the data: one path of the forward process per group.

    Args:
        value: (m,), at the data.
        alpha, sigma: (levels + 1,) float64, at all grid points; the last are 1 and 0.
        normal: (g, levels, m) standard normals.

    Returns:
        (g, levels + 1, m) float64, coordinates of states.
    """
    path = [value.double().expand(len(normal), -1)]
    for k in reversed(range(len(alpha) - 1)):
        kept = alpha[k] / alpha[k + 1]
        spread = (sigma[k] ** 2 - (kept * sigma[k + 1]) ** 2).clamp_min(0).sqrt()
        path.append(kept * path[-1] + spread * normal[:, k].double())
    return torch.stack(path[::-1], dim=1)
