"""DPM-Solver-3 that halves a step where its embedded second-order result disagrees."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants import Interpolant
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.dpm_solver import embedded_second_order, third_order_step
from itscale.solvers.linear_update import combine
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_update import HEUN_3, Stage, Step, write

LOOKS = 2  # inside an attempt


@dataclass(frozen=True)
class Interval:
    """One attempt: the stages of a step, its embedded result, and the halves to fall back on."""

    path: Interpolant
    t: float
    t_next: float
    halvings: int

    @cached_property
    def results(self) -> tuple[tuple[Stage, ...], Stage]:
        """Stages of the third-order step, the last of them its end; the end of the embedded one."""
        step = Step(self.path, self.t, self.t_next)
        stages = write(step, third_order_step, HEUN_3)
        return stages, step.end(embedded_second_order(step))

    @cached_property
    def halves(self) -> tuple[Interval, Interval]:
        """Halves in log-SNR; from pure noise halves in 1/kappa."""
        kappa, kappa_next = float(self.path.kappa(self.t)), float(self.path.kappa(self.t_next))
        middle = 2 * kappa_next if math.isinf(kappa) else math.sqrt(kappa * kappa_next)
        t, left = float(self.path.t_of_kappa(middle)), self.halvings - 1
        return replace(self, t_next=t, halvings=left), replace(self, t=t, halvings=left)


def most_looks(halvings: int) -> int:
    """Looks inside a step, beside the one at its start, if every attempt but the smallest fails."""
    return LOOKS + (2 * most_looks(halvings - 1) + 1 if halvings else 0)


@dataclass(frozen=True)
class AdaptiveKernel:
    """Every row halves its own steps, so that it does not matter which rows came with it."""

    intervals: tuple[Interval, ...]
    rtol: float
    atol: float
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False
    looks_vary: bool = True

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return most_looks(self.intervals[level].halvings) if level < len(self.intervals) else 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        looks = torch.zeros(at.x.shape[0], dtype=torch.int64)
        if level == len(self.intervals):
            return Move(at.denoised.clone(), z, looks=looks)
        rows = torch.arange(at.x.shape[0])
        return Move(self._cross(self.intervals[level], at.x, at.denoised, rows, look, looks), z, looks=looks)

    def _cross(
        self, interval: Interval, x: Tensor, denoised: Tensor, rows: Tensor, look: Look, looks: Tensor
    ) -> Tensor:
        (*inner, end), embedded = interval.results
        known = [denoised]
        for stage in inner:
            known.append(look(combine(stage.form, x, known), stage.t, rows).denoised)
        looks[rows] += len(inner)
        new = combine(end.form, x, known)
        if not interval.halvings:
            return new
        error = (new - combine(embedded.form, x, known)) / (self.atol + self.rtol * new.abs())
        failed = (error.square().flatten(1).mean(dim=1) > 1).nonzero().flatten()
        if not len(failed):
            return new
        first, second = interval.halves
        again = rows[failed.cpu()]
        y = self._cross(first, x[failed], denoised[failed], again, look, looks)
        looks[again] += 1
        here = look(y, first.t_next, again).denoised
        new[failed] = self._cross(second, y, here, again, look, looks)
        return new


@dataclass(frozen=True)
class AdaptiveDPM:
    """Order 3 with the error of every step held to a tolerance; three evaluations a step and more in halves.

    Where the root mean square over a sample of ``|x3 - x2| / (atol + rtol |x3|)`` exceeds 1, x2 being an
    embedded second-order result, the sample's step is done again as two halves, up to ``halvings`` times. The
    norm is taken sample by sample: one over a batch would make a sample depend on its company.

    Evaluations are charged as they are made, those of rejected attempts too. A budget is planned with the
    most that a step can take (38 with 3 halvings), so that it is never exceeded.

    Attributes:
        rtol, atol: tolerances of a step, relative to the state and absolute.
        halvings: how often a step may be halved, 0 to 6.

    Reference:
        Lu et al. (2022), "DPM-Solver", arXiv:2206.00927, DPM-Solver-23. Halving in place of a
        free step size keeps all samples at the grid's levels.
    """

    rtol: float = 0.05
    atol: float = 0.0078
    halvings: int = 3
    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 3
    evaluations: ClassVar[int] = 3
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"AdaptiveDPM needs a finite {name} > 0, got {value!r}")
        halvings = self.halvings
        if isinstance(halvings, bool) or not isinstance(halvings, int) or not 0 <= halvings <= 6:
            raise ConfigError(f"AdaptiveDPM needs halvings from 0 to 6, got {halvings!r}")

    def build(self, process: ContinuousProcess, times: Tensor) -> AdaptiveKernel:
        t, path = Schedule.of(process, times).t[:-1], process.interpolant
        intervals = tuple(Interval(path, a, b, self.halvings) for a, b in itertools.pairwise(t))
        return AdaptiveKernel(intervals, self.rtol, self.atol)
