"""DPM-Solver++(2M) and its SDE form: exponential two-step methods on denoised samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import LinearUpdate, Row
from itscale.solvers.schedule import Schedule


def two_step_row(schedule: Schedule, level: int, depth: int) -> Row:
    """Extrapolate the denoised sample to the middle of the step from the last two (in log-SNR)."""
    kept, pulled, std = schedule.kept(level), schedule.pulled(level), schedule.noise_std(level)
    if depth == 0:
        return Row(kept, (pulled,), std)
    ratio = schedule.log_snr_gain(level) / schedule.log_snr_gain(level - 1)  # 0 after a step from pure noise
    return Row(kept, (pulled * (1 + ratio / 2), -pulled * ratio / 2), std)


@dataclass(frozen=True)
class DPMSolver2M:
    """Second order for the ODE at one evaluation a step; keeps one denoised sample per row.

    Reference:
        Lu et al. (2022), "DPM-Solver++", arXiv:2211.01095, Algorithm 2 (midpoint form).
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return LinearUpdate.build(Schedule.of(process, times), two_step_row, history=1)


@dataclass(frozen=True)
class SDE2M:
    """Weak order 2 for the SDE at one evaluation a step; keeps one denoised sample per row.

    Written for any diffusion coefficient: the step's exponent is the integral of g^2 / (2 sigma^2), which
    for a multiple eta of the natural coefficient is the published eta * h. The transition is Gaussian given
    the row's history.

    Reference:
        Lu et al. (2022), "DPM-Solver++", arXiv:2211.01095, appendix B (SDE-DPM-Solver++(2M)).
    """

    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 1
    gaussian: ClassVar[bool] = True

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return LinearUpdate.build(Schedule.of(process, times), two_step_row, history=1)
