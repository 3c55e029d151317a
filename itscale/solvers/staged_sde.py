"""The one executor of solvers that look inside a step and add noise: each step is a table of stages.

A solver's file writes a step once per level on rows of coefficients, in place of states: on x, on the
denoised samples in the order of looks, on the standard normals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.linear_update import Row, combine, exponential_row
from itscale.solvers.schedule import Schedule

Form: TypeAlias = NDArray[np.float64]
"""A linear combination of x, the denoised samples and the normals."""


@dataclass
class Notebook:
    """One step being written down.

    Attributes:
        x, D: the state at the step's start and the denoised sample there.
    """

    schedule: Schedule
    level: int
    looks: int
    normals: int
    stages: list[tuple[float, Form]] = field(default_factory=list)

    @property
    def x(self) -> Form:
        return self._unit(0)

    @property
    def D(self) -> Form:
        return self._unit(1)

    def z(self, index: int = 0) -> Form:
        return self._unit(1 + self.looks + index)

    def denoised(self, form: Form, t: float) -> Form:
        """Look at a state inside the step at time t: its denoised sample."""
        self.stages.append((t, form))
        return self._unit(1 + len(self.stages))

    def _unit(self, index: int) -> Form:
        form = np.zeros(1 + self.looks + self.normals)
        form[index] = 1.0
        return form


class Stages(NamedTuple):
    """A step: states to look at with their times, its end, and how many looks and normals it uses."""

    inner: tuple[tuple[float, tuple[float, ...]], ...]
    end: tuple[float, ...]
    looks: int
    normals: int

    @property
    def on_noise(self) -> tuple[float, ...]:
        return self.end[1 + self.looks :]


Step: TypeAlias = Callable[[Notebook], Form]
"""Write a step down: call ``denoised`` for the looks inside it and return its end."""


@dataclass(frozen=True)
class StagedSDE:
    """Kernel of a solver with looks inside a step, noise, and no memory.

    Its transition is Gaussian if no state that is looked at holds noise: then one normal suffices.
    """

    steps: tuple[Stages, ...]
    gaussian: bool
    history: int = 0
    takes_levels: bool = False

    @classmethod
    def build(cls, schedule: Schedule, step: Step, looks: int = 2, normals: int = 1) -> StagedSDE:
        """Write ``step`` for every level; from pure noise take the exponential step, exact there."""
        written: list[Stages] = []
        for level in range(schedule.steps - 1):
            pure = schedule.is_noise(level)
            note = Notebook(schedule, level, 1 if pure else looks, 1 if pure else normals)
            end = exponential(note, exponential_row(schedule, level)) if pure else step(note)
            inner = tuple((t, tuple(form.tolist())) for t, form in note.stages)
            written.append(Stages(inner, tuple(end.tolist()), note.looks, note.normals))
        written.append(Stages((), (0.0, 1.0), 1, 0))  # the jump
        is_noiseless = [not any(any(form[1 + s.looks :]) for _, form in s.inner) for s in written]
        is_gaussian = all(is_noiseless) and all(s.normals <= 1 for s in written)
        return cls(tuple(written), is_gaussian)

    def is_noisy(self, level: int) -> bool:
        return any(self.steps[level].on_noise)

    def extra_looks(self, level: int) -> int:
        return len(self.steps[level].inner)

    def shares(self, level: int) -> tuple[float, ...] | None:
        """A shift is shared in proportion to how the normals enter the step's end."""
        if self.steps[level].normals <= 1:
            return None
        on_noise = self.steps[level].on_noise
        return tuple(c / math.hypot(*on_noise) for c in on_noise)

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        step = self.steps[level]
        normals = [] if z is None or not step.normals else [z] if step.normals == 1 else list(z.unbind(1))
        denoised = [at.denoised]

        def at_hand(form: Sequence[float]) -> Tensor:
            first = 1 + step.looks
            known = (*form[: 1 + len(denoised)], *form[first : first + len(normals)])
            return combine(known, at.x, [*denoised, *normals])

        for t, form in step.inner:
            denoised.append(look(at_hand(form), t).denoised)
        x = at_hand(step.end)
        if not self.gaussian:
            return Move(x)
        return Move(x, z, step.on_noise[0] if step.on_noise else 0.0)


def exponential(note: Notebook, row: Row) -> Form:
    """Write down an exponential step from the state at the start, with the first normal."""
    return row.a * note.x + row.b[0] * note.D + row.c * note.z()
