"""DPM-Solver++(3M): the exponential three-step method on denoised samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.dpm_solver_2m import exponential_moments, two_step_row
from itscale.solvers.linear_update import LinearUpdate, Row
from itscale.solvers.schedule import Schedule


def three_step_row(schedule: Schedule, level: int, depth: int, curvature: float = 1.0) -> Row:
    """Integrate exactly the parabola in log-SNR through the last three denoised samples.

    With ``h`` the step and ``r0, r1`` the two before it in units of h, the slope and the second difference
    below are h dD/dlambda and h^2 d^2D/dlambda^2; ``curvature`` scales the latter.
    """
    if depth < 2 or math.isinf(schedule.log_snr_gain(level - 2)):  # a sample at infinity bends nothing
        return two_step_row(schedule, level, min(depth, 1))
    h = schedule.log_snr_gain(level)
    r0, r1 = schedule.log_snr_gain(level - 1) / h, schedule.log_snr_gain(level - 2) / h
    p, q = (1 / r0, -1 / r0, 0.0), (0.0, 1 / r1, -1 / r1)  # on D_i, D_(i-1), D_(i-2)
    slope = [a + (a - b) * r0 / (r0 + r1) for a, b in zip(p, q, strict=True)]
    bend = [2 * curvature * (a - b) / (r0 + r1) for a, b in zip(p, q, strict=True)]
    i2, i3 = exponential_moments(h + schedule.exponent[level])
    b = [schedule.alpha[level + 1] * (i2 * s + i3 * c) for s, c in zip(slope, bend, strict=True)]
    return Row(schedule.kept(level), (schedule.pulled(level) + b[0], b[1], b[2]), schedule.noise_std(level))


def legacy_row(schedule: Schedule, level: int, depth: int) -> Row:
    """The same with half the second derivative."""
    return three_step_row(schedule, level, depth, curvature=1 / 2)


@dataclass(frozen=True)
class DPMSolver3M:
    """Third order for the ODE at one evaluation a step; keeps two denoised samples per row.

    A departure: the published second difference is half of the second derivative, which leaves order 2
    (``legacy-3m``); here it is whole.

    Reference:
        Lu et al. (2022), "DPM-Solver++", arXiv:2211.01095, DPM-Solver++(3M) of its released
        code; as UniP-3 of Zhao et al. (2023), "UniPC", arXiv:2302.04867.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 3
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 2
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return LinearUpdate.build(Schedule.of(process, times), three_step_row, history=2)


@dataclass(frozen=True)
class Legacy3M:
    """DPM-Solver++(3M) as commonly implemented, second order: only to reproduce other libraries.

    Its second derivative is half of what it should be. ``dpm++3m`` costs the same.

    Reference:
        Lu et al. (2022), "DPM-Solver++", arXiv:2211.01095, its released code.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 2
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return LinearUpdate.build(Schedule.of(process, times), legacy_row, history=2)
