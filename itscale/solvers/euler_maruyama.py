"""Euler-Maruyama: the plainest discretisation of the sampling SDE, for any diffusion coefficient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import LinearUpdate, Row, exponential_row
from itscale.solvers.schedule import Schedule


@dataclass(frozen=True)
class EulerMaruyama:
    """Left-point drift, exact variance of the noise increment; weak order 1, no memory.

    From pure noise under an infinite coefficient the first step is the exponential one, which is exact in
    law there. Large coefficients on few steps leave the noise shell: prefer ``2m-sde`` or ``ancestral``.

    Reference:
        Kloeden and Platen (1992), "Numerical Solution of Stochastic Differential Equations", chapter 10.2.
    """

    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = True

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        path = process.interpolant

        def row(schedule: Schedule, level: int, depth: int) -> Row:
            if math.isinf(schedule.g[level]):
                return exponential_row(schedule, level)
            t, h = schedule.t[level], schedule.t[level + 1] - schedule.t[level]
            alpha, sigma = schedule.alpha[level], schedule.sigma[level]
            # u + g^2/2 score = alpha' D + (sigma' - g^2 / (2 sigma)) noise, and noise = (x - alpha D) / sigma
            on_noise = float(path.d_sigma(t)) - schedule.g[level] ** 2 / (2 * sigma)
            return Row(
                1 + h * on_noise / sigma,
                (h * (float(path.d_alpha(t)) - alpha * on_noise / sigma),),
                math.sqrt(schedule.variance(level)),
            )

        return LinearUpdate.build(Schedule.of(process, times), row)
