"""The one executor of solvers that look inside a step, and the notebook in which their formulas are written.

A solver's file states a step in the letters of its paper, on rows of coefficients in place of states:
``y = x / alpha``, ``E`` the noise and ``D`` the denoised sample at ``kappa = sigma / alpha``, so that
``dy / dkappa = E = (y - D) / kappa``. Written once per level, it leaves a table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from itscale import interpolants
from itscale.interpolants import Interpolant
from itscale.process import Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.linear_update import ROUNDING, combine
from itscale.solvers.schedule import Schedule

Form: TypeAlias = NDArray[np.float64]
"""A linear combination: the factor on x, then the factors on the denoised samples in the order of looks."""

_LENGTH = 8  # x and up to seven denoised samples


class Stage(NamedTuple):
    """A state inside a step (or its end): where it lies in time, and the factors that make it."""

    t: float
    form: tuple[float, ...]


@dataclass
class Step:
    """A step from time ``t`` to ``t_next``, in the frame of ``y = x / alpha``.

    Attributes:
        kappa, kappa_next: noise-to-signal ratios at the ends.
        y: the state; D: the denoised sample there; E: the noise there. From pure noise (``kappa`` infinite)
            neither y nor E exists, but ``w = x / sigma``.
    """

    path: Interpolant
    t: float
    t_next: float
    stages: list[Stage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kappa, self.kappa_next = float(self.path.kappa(self.t)), float(self.path.kappa(self.t_next))

    @property
    def y(self) -> Form:
        return _unit(0) / float(self.path.alpha(self.t))

    @property
    def w(self) -> Form:
        return _unit(0) / float(self.path.sigma(self.t))

    @property
    def D(self) -> Form:
        return _unit(1)

    @property
    def E(self) -> Form:
        return (self.y - self.D) / self.kappa

    def denoised(self, y: Form, kappa: float) -> Form:
        """Look at state y: its denoised sample."""
        self.stages.append(self._stage(y, kappa))
        return _unit(1 + len(self.stages))

    def noise(self, y: Form, kappa: float) -> Form:
        """Look at state y: its noise."""
        return (y - self.denoised(y, kappa)) / kappa

    def denoised_at(self, look: int) -> Form:
        """The denoised sample of an earlier look, 0 the first inside the step."""
        return _unit(2 + look)

    def noise_at(self, look: int) -> Form:
        """The noise of an earlier look."""
        t, form = self.stages[look]
        y = np.zeros(_LENGTH)
        y[: len(form)] = form
        return (y / float(self.path.alpha(t)) - self.denoised_at(look)) / float(self.path.kappa(t))

    def end(self, y: Form) -> Stage:
        """The new state."""
        return self._stage(y, self.kappa_next)

    def _stage(self, y: Form, kappa: float) -> Stage:
        t = self.t_next if kappa == self.kappa_next else float(self.path.t_of_kappa(kappa))
        form = float(self.path.alpha(t)) * y
        return Stage(t, tuple(form[: 2 + len(self.stages)].tolist()))


def _unit(index: int) -> Form:
    form = np.zeros(_LENGTH)
    form[index] = 1.0
    return form


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method: row i of ``inner`` makes stage i + 1, at the sum of its entries."""

    inner: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


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
    w = step.w
    slopes = [step.D]
    for row in tableau.inner:
        part = sum(row)
        slopes.append(step.denoised((w + gap * _sum(row, slopes)) / (part * gap), 1 / (part * gap)))
    return (w + gap * _sum(tableau.weights, slopes)) / gap


def write(step: Step, formula: Callable[[Step], Form], from_noise: Tableau) -> tuple[Stage, ...]:
    """The stages of a step, the last of them the new state."""
    y = runge_kutta_from_noise(step, from_noise) if math.isinf(step.kappa) else formula(step)
    return (*step.stages, step.end(y))


def _sum(factors: Sequence[float], forms: Sequence[Form]) -> Form:
    return sum((f * form for f, form in zip(factors, forms, strict=True)), np.zeros(_LENGTH))


@dataclass(frozen=True)
class StagedUpdate:
    """Kernel of an ODE solver with looks inside a step and no memory: per level, its stages."""

    stages: tuple[tuple[Stage, ...], ...]
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False
    _on_outputs: dict[tuple[int, str, float], tuple[tuple[float, ...], ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """By level, prediction and time: the stages as combinations of x and the network's outputs."""

    @classmethod
    def build(
        cls,
        schedule: Schedule,
        step: Callable[[Step], Form],
        from_noise: Tableau,
        last: Callable[[Step], Form] | None = None,
    ) -> StagedUpdate:
        """Write ``step`` down for every level; from pure noise take ``from_noise`` in ``1 / kappa``.

        ``last`` is another step for the last move before the jump.
        """
        path = schedule.process.interpolant
        moves = [Step(path, *ends) for ends in itertools.pairwise(schedule.t[:-1])]
        formulas = [step] * len(moves)
        if moves and last is not None:
            formulas[-1] = last
        jump = Stage(schedule.t[-1], (0.0, 1.0))
        written = (write(move, formula, from_noise) for move, formula in zip(moves, formulas, strict=True))
        return cls((*written, (jump,)))

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return len(self.stages[level]) - 1

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        *inner, _ = self.stages[level]
        if not inner:  # the jump
            return Move(at.denoised, z)
        key = (level, at.kind, float(at.t))
        forms = self._on_outputs.get(key)
        if forms is None:
            forms = self._on_outputs[key] = on_outputs(self.stages[level], at)
        *looks, end = forms
        raws = [at.output]
        for stage, form in zip(inner, looks, strict=True):
            raws.append(look(combine(form, at.x, raws), stage.t).output)
        return Move(combine(end, at.x, raws), z)


def on_outputs(stages: Sequence[Stage], at: Evaluation) -> tuple[tuple[float, ...], ...]:
    """Write stages, given on x and denoised samples, on x and the outputs of a network of this prediction.

    A denoised sample is ``p y + q raw`` of the state y that was looked at, which is such a combination too.
    """
    p, q = at.denoised_factors(at.coefficients)
    samples = [p * _unit(0) + q * _unit(1)]
    found = []
    for j, stage in enumerate(stages, 2):
        form = stage.form[0] * _unit(0) + _sum(stage.form[1:], samples)
        form[np.abs(form) <= ROUNDING * np.abs(form).max()] = 0.0  # an output that drops out costs no pass
        found.append(tuple(form[:j].tolist()))
        if j <= len(stages):
            p, q = at.denoised_factors(interpolants.coefficients(at.interpolant, stage.t))
            samples.append(p * form + q * _unit(j))
    return tuple(found)
