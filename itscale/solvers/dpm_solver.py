"""DPM-Solver-2 and DPM-Solver-3: exponential one-step methods on the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_update import HEUN_3, MIDPOINT, Form, StagedUpdate, Step


def midpoint_step(step: Step) -> Form:
    """Look halfway in log-SNR and take the noise of there for the whole step."""
    middle = math.sqrt(step.kappa * step.kappa_next)
    u = step.y + (middle - step.kappa) * step.E
    return step.y + (step.kappa_next - step.kappa) * step.noise(u, middle)


def third_order_step(step: Step) -> Form:
    """Looks at thirds of the step in log-SNR (r1 = 1/3, r2 = 2/3)."""
    h, r1, r2 = math.log(step.kappa / step.kappa_next), 1 / 3, 2 / 3
    k1, k2, k3 = (step.kappa * math.exp(-r * h) for r in (r1, r2, 1.0))
    y, E = step.y, step.E
    change_1 = step.noise(y - k1 * math.expm1(r1 * h) * E, k1) - E
    curved = r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1)
    change_2 = step.noise(y - k2 * math.expm1(r2 * h) * E - k2 * curved * change_1, k2) - E
    return y - k3 * math.expm1(h) * E - k3 / r2 * (math.expm1(h) / h - 1) * change_2


def embedded_second_order(step: Step) -> Form:
    """A second-order result from looks that the third-order step has made (DPM-Solver-23)."""
    r1 = 1 / 3
    if math.isinf(step.kappa):  # in 1/kappa, as the step itself
        return step.w * step.kappa_next + step.D + (step.denoised_at(0) - step.D) / (2 * r1)
    grown = step.kappa - step.kappa_next  # kappa_+ (e^h - 1)
    return step.y - grown * step.E - grown / (2 * r1) * (step.noise_at(0) - step.E)


@dataclass(frozen=True)
class DPMSolver2:
    """Order 2 by one look at the middle of every step in log-SNR; two evaluations a step, no memory.

    Reference:
        Lu et al. (2022), "DPM-Solver", arXiv:2206.00927, DPM-Solver-2 (r1 = 1/2).
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedUpdate:
        return StagedUpdate.build(Schedule.of(process, times), midpoint_step, MIDPOINT)


@dataclass(frozen=True)
class DPMSolver3S:
    """Order 3 in one step ("singlestep"): three evaluations a step, no memory.

    Attributes:
        second_order_end: make the last step before the jump by DPM-Solver-2, at one evaluation less: T steps
            then cost ``3 T - 3``, as published budgets do.

    Reference:
        Lu et al. (2022), "DPM-Solver", arXiv:2206.00927, DPM-Solver-3 (r1 = 1/3, r2 = 2/3).
    """

    second_order_end: bool = False
    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 3
    evaluations: ClassVar[int] = 3
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedUpdate:
        last = midpoint_step if self.second_order_end else None
        return StagedUpdate.build(Schedule.of(process, times), third_order_step, HEUN_3, last)
