"""Adams-Bashforth with momentum: larger regions of stability for few steps under strong guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.deis import check_points, noise_row
from itscale.solvers.ipndm import ADAMS_BASHFORTH
from itscale.solvers.linear_update import LinearUpdate, Row, exponential_row
from itscale.solvers.schedule import Schedule


def mixer(depth: int, beta: float) -> tuple[float, ...]:
    """Factors on the smoothed noises v_i, v_(i-1), ... that undo the lag of the smoothing (GHVB)."""
    b = beta
    return (
        (1.0,),
        ((2 + b) / (2 * b), -(2 - b) / (2 * b)),
        ((18 + 5 * b) / (12 * b), -(24 - 8 * b) / (12 * b), (6 - b) / (12 * b)),
        (
            (46 + 9 * b) / (24 * b),
            -(78 - 19 * b) / (24 * b),
            (42 - 5 * b) / (24 * b),
            -(10 - b) / (24 * b),
        ),
        (
            (1650 + 251 * b) / (720 * b),
            -(3420 - 646 * b) / (720 * b),
            (2880 - 264 * b) / (720 * b),
            -(1380 - 106 * b) / (720 * b),
            (270 - 19 * b) / (720 * b),
        ),
    )[depth]


def remember_smoothed(at: Evaluation, memory: Sequence[Tensor], beta: float) -> tuple[Tensor, ...]:
    """``v_i = (1 - beta) v_(i-1) + beta E_i``, starting from ``v_0 = E_0``."""
    return (torch.lerp(memory[0], at.noise, beta) if memory else at.noise, *memory)


def remember_velocity(at: Evaluation, memory: Sequence[Tensor], beta: float) -> tuple[Tensor, ...]:
    """``v_i = (1 - beta) v_(i-1) + beta u_i``, u the Adams-Bashforth mean; v leads, noises follow."""
    if not memory:
        return (at.noise, at.noise)
    velocity, *past = memory
    noises = [at.noise, *past]
    mean = sum((w * e for w, e in zip(ADAMS_BASHFORTH[len(past)], noises, strict=True)), 0 * at.noise)
    return (torch.lerp(velocity, mean, beta), *noises)


def _gap(schedule: Schedule, level: int) -> float:
    return schedule.kappa(level + 1) - schedule.kappa(level)


@dataclass(frozen=True)
class GHVB:
    """Generalised heavy ball: ``points`` smoothed noises combined so that order 2 survives the smoothing.

    One evaluation a step; order 1 with one point. ``beta = 1`` is iPNDM. Keeps up to ``points`` tensors per
    row.

    Attributes:
        points: smoothed noises that are combined, 1 to 5 (5 is the authors' extension of AB5).
        beta: share of the newest noise in the smoothing, in (0, 1].

    Reference:
        Wizadwongsa et al. (2023), "Diffusion Sampling with Momentum for Mitigating Divergence Artifacts",
        arXiv:2307.11118, GHVB; formulas checked against its released code.
    """

    points: int = 2
    beta: float = 0.8
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points("GHVB", self.points, most=5)
        _check_beta("GHVB", self.beta)

    @property
    def order(self) -> int:
        return min(self.points, 2)

    @property
    def history(self) -> int:
        return max(self.points - 1, 1)

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        def row(schedule: Schedule, level: int, depth: int) -> Row:
            if schedule.is_noise(level):
                return exponential_row(schedule, level)
            if depth == 0:
                return noise_row(schedule, level, [_gap(schedule, level)])
            first, *rest = mixer(min(depth, self.points - 1), self.beta)
            on = [first * self.beta, *rest, *[0.0] * (depth - len(rest))]  # v_i contains v_(i-1)
            on[1] += first * (1 - self.beta)
            return noise_row(schedule, level, [_gap(schedule, level) * w for w in on])

        remember = partial(remember_smoothed, beta=self.beta)
        return LinearUpdate.build(Schedule.of(process, times), row, self.history, remember)


@dataclass(frozen=True)
class HeavyBall:
    """Polyak's momentum on the steps of iPNDM: order 1 for ``beta < 1``, one evaluation a step.

    Attributes:
        points: noises of the Adams-Bashforth mean, 1 to 4.
        beta: share of the newest mean in the velocity, in (0, 1]; 1 is iPNDM.

    Reference:
        Wizadwongsa et al. (2023), arXiv:2307.11118, HB.
    """

    points: int = 4
    beta: float = 0.8
    order: ClassVar[int] = 1
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points(type(self).__name__, self.points)
        _check_beta(type(self).__name__, self.beta)

    @property
    def history(self) -> int:
        return self.points

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return _build_velocity(process, times, self.points, self.beta, self.beta)


@dataclass(frozen=True)
class Nesterov:
    """Nesterov's momentum on the steps of iPNDM: the heavy ball, looked ahead by one more smoothing.

    Order 1 for ``beta < 1``, with a smaller error than ``heavy-ball``; one evaluation a step.

    Attributes:
        points: noises of the Adams-Bashforth mean, 1 to 4.
        beta: share of the newest mean in the velocity, in (0, 1]; 1 is iPNDM.

    Reference:
        Wizadwongsa et al. (2023), arXiv:2307.11118, its variant by Nesterov.
    """

    points: int = 4
    beta: float = 0.8
    order: ClassVar[int] = 1
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points(type(self).__name__, self.points)
        _check_beta(type(self).__name__, self.beta)

    @property
    def history(self) -> int:
        return self.points

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        ahead = (1 - self.beta) * self.beta + self.beta  # (1 - beta) v_i + beta u_i, with v_i written out
        return _build_velocity(process, times, self.points, self.beta, ahead)


def _build_velocity(
    process: ContinuousProcess, times: Tensor, points: int, beta: float, share: float
) -> LinearUpdate:
    """Step with ``(1 - share) v_(i-1) + share u_i``."""

    def row(schedule: Schedule, level: int, depth: int) -> Row:
        if schedule.is_noise(level):
            return exponential_row(schedule, level)
        if depth == 0:
            return noise_row(schedule, level, [_gap(schedule, level)])
        newest, *rest = ADAMS_BASHFORTH[depth - 1]  # the memory is the velocity, then depth - 1 noises
        on = [share * newest, 1 - share, *(share * w for w in rest)]
        return noise_row(schedule, level, [_gap(schedule, level) * w for w in on])

    remember = partial(remember_velocity, beta=beta)
    return LinearUpdate.build(Schedule.of(process, times), row, points, remember)


def _check_beta(solver: str, beta: float) -> None:
    if not 0 < beta <= 1:
        raise ConfigError(f"{solver} needs beta in (0, 1], got {beta!r}; 1 is no momentum")
