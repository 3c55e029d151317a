"""DPM-Solver++(2M) and its SDE form: exponential two-step methods on denoised samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

from torch import Tensor

from itscale.errors import unknown_name
from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import LinearUpdate, Row
from itscale.solvers.schedule import Schedule

Form = Literal["midpoint", "heun"]


def two_step_row(schedule: Schedule, level: int, depth: int, form: Form = "midpoint") -> Row:
    """Extrapolate the denoised sample from the last two, along a line in log-SNR.

    ``"midpoint"`` takes the line's value in the middle of the step for all of it, ``"heun"`` integrates it.
    """
    kept, pulled, std = schedule.kept(level), schedule.pulled(level), schedule.noise_std(level)
    if depth == 0:
        return Row(kept, (pulled,), std)
    ratio = schedule.log_snr_gain(level) / schedule.log_snr_gain(level - 1)  # 0 after a step from pure noise
    if form == "midpoint":
        change = pulled * ratio / 2
    else:
        slope, _ = exponential_moments(schedule.log_snr_gain(level) + schedule.exponent[level])
        change = schedule.alpha[level + 1] * slope * ratio
    return Row(kept, (pulled + change, -change), std)


def exponential_moments(whole: float) -> tuple[float, float]:
    """Integrals over s in [0, 1] of ``H exp(-H (1 - s))`` times s and s^2/2, for ``H = whole``."""
    if whole < 1e-3:  # the closed forms lose 1 / H^2 of their digits; the first omitted terms are H^4 / 120
        return whole / 2 - whole**2 / 6 + whole**3 / 24, whole / 6 - whole**2 / 24 + whole**3 / 120
    first = 1 + math.expm1(-whole) / whole
    return first, 1 / 2 - first / whole


@dataclass(frozen=True)
class DPMSolver2M:
    """Second order for the ODE at one evaluation a step; keeps one denoised sample per row.

    Attributes:
        form: ``"midpoint"``, or ``"heun"`` with a slightly larger error on a planar mixture.

    Reference:
        Lu et al. (2022), "DPM-Solver++", arXiv:2211.01095, DPM-Solver++(2M); the forms have their names from
        its released code.
    """

    form: Form = "midpoint"
    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_form(self.form)

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return _build(process, times, self.form)


@dataclass(frozen=True)
class SDE2M:
    """Weak order 2 for the SDE at one evaluation a step; keeps one denoised sample per row.

    Written for any diffusion coefficient: the step's exponent is the integral of g^2 / (2 sigma^2), which
    for a multiple eta of the natural coefficient is the published eta * h. The transition is Gaussian given
    the row's history.

    Attributes:
        form: ``"midpoint"``, or ``"heun"`` with not quite twice the error in variance.

    Reference:
        Lu et al. (2022), "DPM-Solver++", arXiv:2211.01095, SDE-DPM-Solver++(2M); the forms have their names
        from its released code.
    """

    form: Form = "midpoint"
    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 1
    gaussian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_form(self.form)

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return _build(process, times, self.form)


def _build(process: ContinuousProcess, times: Tensor, form: Form) -> LinearUpdate:
    return LinearUpdate.build(Schedule.of(process, times), partial(two_step_row, form=form), history=1)


def _check_form(form: str) -> None:
    if form not in get_args(Form):
        raise unknown_name("form of the two-step method", str(form), get_args(Form))
