"""A choice of order and prediction for every step: one table out of many multistep solvers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from itscale.errors import ConfigError, unknown_name
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.linear_update import LinearUpdate, Row, exponential_row, remember_noise
from itscale.solvers.schedule import Schedule

Prediction = Literal["denoised", "noise"]
Form: TypeAlias = NDArray[np.float64]
"""Factors on y, on D_i, then on (D, E) of every earlier level, newest first."""

MOST = 4  # points of a step


@dataclass(frozen=True)
class Choice:
    """How one step extrapolates.

    Attributes:
        order: evaluations that the polynomial in log-SNR runs through, 1 to 4; fewer at the start.
        prediction: what is extrapolated, ``"denoised"`` (as DPM-Solver++) or ``"noise"`` (as DPM-Solver).
        slope_points: earlier evaluations in the first derivative, at most ``order - 1``, which is the
            default; fewer are steadier, and leave order 2.
        relax: the first derivative is multiplied by ``1 + relax h``, h the step in log-SNR.
        corrector: correct the state once it has been looked at, at no evaluation (UniC): order + 1.
    """

    order: int = 2
    prediction: Prediction = "denoised"
    slope_points: int | None = None
    relax: float = 0.0
    corrector: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.order, bool) or self.order not in range(1, MOST + 1):
            raise ConfigError(f"order must be a whole number from 1 to {MOST}, got {self.order!r}")
        if self.prediction not in get_args(Prediction):
            raise unknown_name("prediction", str(self.prediction), get_args(Prediction))
        if self.slope_points is not None and self.slope_points not in range(1, self.order):
            raise ConfigError(
                f"slope_points must be from 1 to order - 1 = {self.order - 1}, got {self.slope_points!r}"
            )
        if not isinstance(self.relax, int | float) or not math.isfinite(self.relax):
            raise ConfigError(f"relax must be finite, got {self.relax!r}; 0 changes nothing")

    @property
    def attained(self) -> int:
        """The order of convergence where every step is this one."""
        is_plain = self.relax == 0 and self.slope_points in (None, self.order - 1)
        return self.order + self.corrector if is_plain else min(self.order, 2)


@dataclass(frozen=True)
class Scheduled:
    """A multistep solver whose order and prediction change from step to step: one evaluation a step.

    Remembers what its choices extrapolate: one tensor per earlier step, or two if both predictions occur.
    Everything is in one table, so a choice costs nothing. The ``schedule`` of a search, with its grid, is a
    ``SolverSchedule``.

    Attributes:
        choices: one for all steps, or one per step but the last, which jumps to the denoised sample.

    Reference:
        Liu et al. (2023), "A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic
        Models", arXiv:2312.07243. Left out: the third prediction (DPM-Solver-v3), the corrector
        with an evaluation of its own, the analytic first step and the scaling of skip connections. The
        published predictor of scores could not be had.
    """

    choices: tuple[Choice, ...] = (Choice(),)
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.choices or not all(isinstance(c, Choice) for c in self.choices):
            raise ConfigError(f"choices must be a tuple of Choice(...), at least one, got {self.choices!r}")

    @property
    def order(self) -> int:
        return min(choice.attained for choice in self.choices)

    @property
    def lag(self) -> int:
        """How many steps back its memory reaches."""
        one = len(self.choices) == 1
        reach = [
            min(c.order if c.corrector else c.order - 1, MOST if one else i + c.corrector)
            for i, c in enumerate(self.choices)
        ]
        return max(reach)

    @property
    def history(self) -> int:
        return self.lag * len(self._kinds)

    @property
    def _kinds(self) -> set[str]:
        return {choice.prediction for choice in self.choices}

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        schedule = Schedule.of(process, times)
        moves = schedule.steps - 1
        if len(self.choices) not in (1, moves) and moves:
            raise ConfigError(
                f"Scheduled has {len(self.choices)} choices, and {schedule.steps} steps need {moves} (the "
                f"last one jumps): use steps={len(self.choices) + 1}, or a single choice for all"
            )
        kinds = self._kinds
        both = len(kinds) == 2

        def row(schedule: Schedule, level: int, depth: int) -> Row:
            form = self._form(schedule, level, min(level, depth // 2 if both else depth))
            if form is None:
                return exponential_row(schedule, level)
            form = schedule.alpha[level + 1] * form
            earlier = form[2:] if both else form[2:][0 if "denoised" in kinds else 1 :: 2]
            return Row(form[0] / schedule.alpha[level], (form[1], *earlier[:depth]), 0.0)

        remember = remember_both if both else remember_noise if "noise" in kinds else None
        if remember is None:
            return LinearUpdate.build(schedule, row, self.history)
        return LinearUpdate.build(schedule, row, self.history, remember)

    def _choice(self, level: int) -> Choice:
        return self.choices[level if len(self.choices) > 1 else 0]

    def _form(self, schedule: Schedule, level: int, known: int) -> Form | None:
        """The new ``y`` of a step, with ``known`` earlier levels at hand; None from pure noise."""
        if schedule.is_noise(level):
            return None
        y = _unit(0)
        if known and not schedule.is_noise(level - 1):
            before = self._choice(level - 1)
            if before.corrector:
                base, past = level - 1, list(range(level - 2, level - 1 - known, -1))[: before.order - 1]
                predicted = _increment(schedule, level, base, past, before)
                y = y + _increment(schedule, level, base, [level, *past], before) - predicted
        choice = self._choice(level)
        past = list(range(level - 1, level - 1 - known, -1))[: choice.order - 1]
        gain = 1.0 if choice.prediction == "noise" else math.exp(-schedule.log_snr_gain(level))
        return gain * y + _increment(schedule, level, level, past, choice)


def remember_both(at: Evaluation, memory: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Remember the denoised sample and the noise of every step."""
    return (at.denoised, at.noise, *memory)


def _increment(schedule: Schedule, now: int, base: int, others: list[int], choice: Choice) -> Form:
    """What a step from ``base`` adds to ``y`` (to ``e^-h y`` if D is extrapolated), through ``others`` too.

    ``y+ = e^-h y + I_1 D + sum_k I_(k+1) h^k D^(k)``, or with noises
    ``y+ = y - kappa_+ (J_1 E + sum_k J_(k+1) h^k E^(k))``.
    """
    h = schedule.log_snr_gain(base)
    where = {j: _distance(schedule, base, j) / h for j in others}
    nodes = [j for j in others if math.isfinite(where[j])]
    integrals = _integrals(h, len(nodes) + 1, choice.prediction)
    values = {j: _value(schedule, now, j, choice.prediction) for j in (base, *nodes)}
    total = integrals[0] * values[base]
    factors = [integrals[k] * (1 + choice.relax * h if k == 1 else 1) for k in range(1, len(nodes) + 1)]
    fewer = len(nodes) if choice.slope_points is None else choice.slope_points + (now in others)
    for k, factor in enumerate(factors, 1):
        used = nodes[:fewer] if k == 1 else nodes
        taylor = np.array(
            [[where[j] ** q / math.factorial(q) for q in range(1, len(used) + 1)] for j in used]
        )
        on = np.linalg.inv(taylor)[k - 1]  # h^k F^(k) = sum_j on_j (F_j - F_base)
        total = total + factor * sum(w * (values[j] - values[base]) for w, j in zip(on, used, strict=True))
    return total if choice.prediction == "denoised" else -schedule.kappa(base + 1) * total


def _integrals(h: float, count: int, prediction: str) -> list[float]:
    """``I_1, I_2, ...``, or ``J_1, J_2, ...``: integrals of the exponential against ``(s/h)^k / k!``."""
    found = [-math.expm1(-h) if prediction == "denoised" else math.expm1(h)]
    for k in range(1, count):
        rest = found[-1] / h - 1 / math.factorial(k)
        found.append(-rest if prediction == "denoised" else rest)
    return found


def _distance(schedule: Schedule, base: int, j: int) -> float:
    if j > base:
        return schedule.log_snr_gain(base)
    return -sum(schedule.log_snr_gain(k) for k in range(j, base))


def _value(schedule: Schedule, now: int, j: int, prediction: str) -> Form:
    """D or E of level ``j``, in what is at hand at level ``now``."""
    if j < now:
        return _unit(2 * (now - j) + (prediction == "noise"))
    return _unit(1) if prediction == "denoised" else (_unit(0) - _unit(1)) / schedule.kappa(now)


def _unit(index: int) -> Form:
    form = np.zeros(2 + 2 * MOST)
    form[index] = 1.0
    return form
