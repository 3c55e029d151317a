"""Moves drawn given what is measured of the next state: conjugate filtering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Kernel, Look, Move
from itscale.solvers.projections import MeasuredMove
from itscale.types import State


def _no_look(*_: object) -> Evaluation:
    raise AssertionError("a memoryless Gaussian transition needs no look inside its move")


@dataclass(frozen=True, eq=False)
class ConjugateStep(MeasuredMove):
    """The base move given a Gaussian potential of the state ahead, ``N(alpha ybar; x_O, C)`` coordinate by
    coordinate.

    The move ``x' ~ N(mean, v)`` times the potential is again Gaussian, and what the product integrates to
    does not depend on the draw: ``predictive`` is the weight, known before the move.

    Attributes:
        base: the sampler's own kernel, Gaussian and without memory.
        widths: C per level and coordinate, (levels, m); infinite where a coordinate has no potential.

    Reference:
        Cardoso et al. (2023), "Monte Carlo Guided Diffusion for Bayesian Linear Inverse Problems",
        arXiv:2308.07983; weights differ from its released code.
    """

    base: Kernel | None = None
    widths: Tensor | None = None

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        mean, v = self._mean(at, level)
        if z is None or self.is_last(level):
            return Move(mean)
        free, o = self.measured(mean + math.sqrt(v) * z)
        _, e = self.measured(z)
        _, m = self.measured(mean)
        width = self._width(level + 1, m)
        gain = v / (v + width)
        spare = torch.where(width.isinf(), math.sqrt(v), (v * width / (v + width)).nan_to_num(0.0).sqrt())
        target = self.alpha[level + 1] * self.value(m)
        drawn = m + gain * (target - m) + spare * e
        return Move(self.replaced(free, torch.where(width.isinf(), o, drawn)))

    def predictive(self, at: Evaluation, level: int) -> Tensor:
        """``log integral N(x'; mean, v) G(x') dx'``, (rows,) float64."""
        mean, v = self._mean(at, level)
        _, m = self.measured(mean)
        return self._log_normal(m, level + 1, v)

    def potential(self, x: State, level: int, but: Tensor | None = None) -> Tensor:
        """``log G(x)`` at a level, over coordinates, without those of ``but`` (m,)."""
        _, o = self.measured(x)
        return self._log_normal(o, level, 0.0, but)

    def _mean(self, at: Evaluation, level: int) -> tuple[State, float]:
        assert self.base is not None
        move = self.base(at, (), level, _no_look, None)
        std = move.std if isinstance(move.std, float) else 0.0
        return move.x, std**2

    def _width(self, level: int, like: Tensor) -> Tensor:
        assert self.widths is not None
        return self.widths[level].to(like)

    def _log_normal(self, o: Tensor, level: int, extra: float, but: Tensor | None = None) -> Tensor:
        o = o.double()
        variance = self._width(level, o) + extra
        e = self.alpha[level] * self.value(o) - o
        terms = -(e**2 / variance + (2 * math.pi * variance).log()) / 2
        keep = variance.isfinite() if but is None else variance.isfinite() & ~but.to(o.device)
        return torch.where(keep, terms, 0.0).sum(1)
