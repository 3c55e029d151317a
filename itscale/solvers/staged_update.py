"""The one executor of solvers that look inside a step, and the notebook in which their formulas are written.

A solver's file states a step in the letters of its paper, on rows of coefficients in place of states:
``y = x / alpha``, ``E`` the noise and ``D`` the denoised sample at ``kappa = sigma / alpha``, so that
``dy / dkappa = E = (y - D) / kappa``. Written once per level, it leaves a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.schedule import Schedule

Form: TypeAlias = NDArray[np.float64]
"""A linear combination: the factor on x, then the factors on the denoised samples in the order of looks."""

MAX_LOOKS = 8


class Stage(NamedTuple):
    """A state inside a step (or its end): where it lies in time, and the factors that make it."""

    t: float
    form: tuple[float, ...]


@dataclass
class Step:
    """The step from one level to the next, in the frame of ``y = x / alpha``.

    Attributes:
        kappa, kappa_next: noise-to-signal ratios at the ends.
        y: the state; D: the denoised sample there; E: the noise there. From pure noise (``kappa`` infinite)
            neither y nor E exists.
    """

    schedule: Schedule
    level: int
    stages: list[Stage] = field(default_factory=list)

    @property
    def kappa(self) -> float:
        return self.schedule.kappa(self.level)

    @property
    def kappa_next(self) -> float:
        return self.schedule.kappa(self.level + 1)

    @property
    def y(self) -> Form:
        return _unit(0) / self.schedule.alpha[self.level]

    @property
    def D(self) -> Form:
        return _unit(1)

    @property
    def E(self) -> Form:
        return (self.y - self.D) / self.kappa

    def denoised(self, y: Form, kappa: float) -> Form:
        """Look at state y: its denoised sample."""
        self._add(y, kappa)
        return _unit(1 + len(self.stages))

    def noise(self, y: Form, kappa: float) -> Form:
        """Look at state y: its noise."""
        return (y - self.denoised(y, kappa)) / kappa

    def end(self, y: Form) -> tuple[Stage, ...]:
        """The stages, the last of them the new state."""
        self._add(y, self.kappa_next)
        return tuple(self.stages)

    def _add(self, y: Form, kappa: float) -> None:
        path = self.schedule.process.interpolant
        is_end = kappa == self.kappa_next
        t = self.schedule.t[self.level + 1] if is_end else float(path.t_of_kappa(kappa))
        form = float(path.alpha(t)) * y
        self.stages.append(Stage(t, tuple(form[: 2 + len(self.stages)].tolist())))


def _unit(index: int) -> Form:
    form = np.zeros(MAX_LOOKS)
    form[index] = 1.0
    return form


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method: row i of ``inner`` makes stage i + 1, at the sum of its entries."""

    inner: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


EULER = Tableau((), (1.0,))
MIDPOINT = Tableau(((1 / 2,),), (0.0, 1.0))
HEUN = Tableau(((1.0,),), (1 / 2, 1 / 2))
HEUN_3 = Tableau(((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4))
RK4 = Tableau(((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


def runge_kutta(step: Step, tableau: Tableau) -> Form:
    """Integrate ``dy / dkappa = E``."""
    gap = step.kappa_next - step.kappa
    slopes = [step.E]
    for row in tableau.inner:
        y = step.y + gap * _sum(row, slopes)
        slopes.append(step.noise(y, step.kappa + gap * sum(row)))
    return step.y + gap * _sum(tableau.weights, slopes)


def runge_kutta_from_noise(step: Step, tableau: Tableau) -> Form:
    """Integrate ``d(x / sigma) / d(1 / kappa) = D``, which has no singularity at ``1 / kappa = 0``."""
    gap = 1 / step.kappa_next
    w = _unit(0) / step.schedule.sigma[step.level]
    slopes = [step.D]
    for row in tableau.inner:
        part = sum(row)
        slopes.append(step.denoised((w + gap * _sum(row, slopes)) / (part * gap), 1 / (part * gap)))
    return (w + gap * _sum(tableau.weights, slopes)) / gap


def _sum(factors: Sequence[float], forms: Sequence[Form]) -> Form:
    return sum((f * form for f, form in zip(factors, forms, strict=True)), np.zeros(MAX_LOOKS))


@dataclass(frozen=True)
class StagedUpdate:
    """Kernel of an ODE solver with looks inside a step and no memory: per level, its stages."""

    stages: tuple[tuple[Stage, ...], ...]
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    @classmethod
    def build(cls, schedule: Schedule, step: Callable[[Step], Form], from_noise: Tableau) -> StagedUpdate:
        """Write ``step`` down for every level; from pure noise take ``from_noise`` in ``1 / kappa``."""

        def at(level: int) -> tuple[Stage, ...]:
            note = Step(schedule, level)
            if level == schedule.steps - 1:
                return (Stage(schedule.t[-1], (0.0, 1.0)),)
            pure = math.isinf(note.kappa)
            return note.end(runge_kutta_from_noise(note, from_noise) if pure else step(note))

        return cls(tuple(at(level) for level in range(schedule.steps)))

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return len(self.stages[level]) - 1

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        *inner, end = self.stages[level]
        denoised = [at.denoised]
        for stage in inner:
            denoised.append(look(_combine(stage.form, at.x, denoised), stage.t).denoised)
        return Move(_combine(end.form, at.x, denoised), z)


def _combine(form: Sequence[float], x: Tensor, denoised: Sequence[Tensor]) -> Tensor:
    total = torch.mul(denoised[0], form[1])
    for factor, sample in zip((form[0], *form[2:]), (x, *denoised[1:]), strict=True):
        if factor:
            total.add_(sample, alpha=factor)
    return total
