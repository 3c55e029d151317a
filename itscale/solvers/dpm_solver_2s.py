"""DPM-Solver++(2S): an exponential midpoint method on denoised samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_update import MIDPOINT, Form, StagedUpdate, Step


def midpoint_step(step: Step) -> Form:
    """Look halfway in log-SNR and take the denoised sample of there for the whole step."""
    middle = math.sqrt(step.kappa * step.kappa_next)
    half, whole = middle / step.kappa, step.kappa_next / step.kappa  # exp(-h/2), exp(-h)
    u = half * step.y + (1 - half) * step.D
    return whole * step.y + (1 - whole) * step.denoised(u, middle)


@dataclass(frozen=True)
class DPMSolver2S:
    """Order 2 in one step ("singlestep"): two evaluations a step, no memory.

    Reference:
        Lu et al. (2022), "DPM-Solver++", arXiv:2211.01095, DPM-Solver++(2S), r = 1/2.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedUpdate:
        return StagedUpdate.build(Schedule.of(process, times), midpoint_step, MIDPOINT)
