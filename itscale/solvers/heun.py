"""Heun's predictor-corrector: second order for the ODE and, with additive noise, for the SDE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.linear_update import LinearUpdate, exponential_row
from itscale.solvers.schedule import Schedule


@dataclass(frozen=True)
class HeunKernel:
    """Trapezoid of the drift; the noise of the step enters predictor and corrector alike."""

    process: ContinuousProcess
    schedule: Schedule
    exponential: LinearUpdate  # first step from pure noise, and the last jump
    spread: tuple[float, ...]  # standard deviation of the noise of every step but the last
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return level < self.schedule.steps - 1 and self.schedule.g[level] > 0

    def extra_looks(self, level: int) -> int:
        return 0 if self._is_single(level) else 1

    def _is_single(self, level: int) -> bool:
        return level == self.schedule.steps - 1 or math.isinf(self.schedule.g[level])

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        if self._is_single(level):
            move = self.exponential(at, (), level, look, z)
            return Move(move.x, z)
        h = self.schedule.t[level + 1] - self.schedule.t[level]
        drift = self.process.drift(at)
        predicted = torch.add(at.x, drift, alpha=h)
        if z is not None:
            predicted.add_(z, alpha=self.spread[level])
        ahead = self.process.drift(look(predicted, level + 1))
        return Move(predicted.add_(ahead, alpha=h / 2).add_(drift, alpha=-h / 2), z)


@dataclass(frozen=True)
class Heun:
    """Heun's method for the ODE in the process's own time; two evaluations a step, one on the last.

    On the path ``edm`` time is linear in the noise level and this is the EDM sampler.

    Reference:
        Karras et al. (2022), arXiv:2206.00364, Algorithm 1.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> HeunKernel:
        return _build(process, times)


@dataclass(frozen=True)
class SDEHeun:
    """Heun's method for additive noise: weak order 2, two evaluations a step, no memory.

    The corrector sees the noise of the step, so the transition is not Gaussian; guiding it by a shift of
    its noise stays exact.

    Reference:
        Kloeden and Platen (1992), chapter 15.1 (additive noise).
    """

    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> HeunKernel:
        return _build(process, times)


def _build(process: ContinuousProcess, times: Tensor) -> HeunKernel:
    schedule = Schedule.of(process, times)
    spread = tuple(math.sqrt(schedule.variance(level)) for level in range(schedule.steps - 1))
    return HeunKernel(process, schedule, LinearUpdate.build(schedule, exponential_row), spread)
