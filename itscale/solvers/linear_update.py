"""The one executor of all one-evaluation solvers: ``x+ = a x + sum_j b_j D_(i-j) + c z``.

A solver's file says what a, b and c are; this file builds the table and applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.schedule import Schedule
from itscale.types import expand_over_event, sent


class Row(NamedTuple):
    """Coefficients of one step: on x, on the denoised samples (newest first), on the noise."""

    a: float
    b: tuple[float, ...]
    c: float


RowBuilder: TypeAlias = Callable[[Schedule, int, int], Row]
"""``(schedule, level, depth) -> Row``: ``depth`` remembered tensors are at hand.

That is at most ``level`` earlier denoised samples; only what a solver remembers by itself may be more.
"""

Remember: TypeAlias = Callable[[Evaluation, Sequence[Tensor]], tuple[Tensor, ...]]
"""``(evaluation, memory) -> memory``: what to remember after a move, newest first."""

JUMP = Row(0.0, (1.0,), 0.0)
"""The last step: to the denoised sample, without noise."""


ROUNDING = 1e-14
"""How far from 1 a factor on x may lie by rounding alone: such a step needs a pass less."""


def combine(factors: Sequence[float], x: Tensor, others: Sequence[Tensor]) -> Tensor:
    """``factors[0] x + sum_j factors[1 + j] others[j]`` in a new tensor of the dtype of x.

    A pass per factor that is not 0, and one less if that on x is 1; others may be in half precision.
    """
    terms = [(f, v) for f, v in zip(factors[1:], others, strict=True) if f]
    if abs(factors[0] - 1) <= ROUNDING and terms:
        factor, term = terms.pop(0)
        total = torch.add(x, term, alpha=factor)
    elif factors[0] or not terms:
        total = torch.mul(x, factors[0])
    else:
        factor, term = terms.pop(0)
        total = torch.mul(term.to(x.dtype), factor)
    for factor, term in terms:
        total.add_(term, alpha=factor)
    return total


def exponential_row(schedule: Schedule, level: int, depth: int = 0) -> Row:
    """First-order exponential step: exact where the denoised sample does not change.

    With no noise it is DDIM; with the natural coefficient it is the DDPM posterior.
    """
    return Row(schedule.kept(level), (schedule.pulled(level),), schedule.noise_std(level))


def remember_noise(at: Evaluation, memory: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Remember noises where the solver extrapolates these, not denoised samples."""
    return (at.noise, *memory)


@dataclass(frozen=True)
class LinearUpdate:
    """Kernel of a one-evaluation solver: a table of coefficients per history depth and level.

    ``D_i`` is the denoised sample at the level; the other D are what ``remember`` kept, by default the
    denoised samples before it.
    """

    a: Tensor  # (history + 1, steps) float64
    b: Tensor  # (history + 1, steps, history + 1) float64
    c: Tensor  # (history + 1, steps) float64
    gaussian: bool = True
    takes_levels: bool = True
    remember: Remember | None = None
    _on_output: dict[tuple[int, str, float], tuple[float, float]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """By level, prediction and time: factors on x and on the network's output."""

    @classmethod
    def build(
        cls, schedule: Schedule, row: RowBuilder, history: int = 0, remember: Remember | None = None
    ) -> LinearUpdate:
        steps = schedule.steps
        a, c = np.zeros((2, history + 1, steps))
        b = np.zeros((history + 1, steps, history + 1))
        for depth in range(history + 1):
            for level in range(steps):
                known = min(depth, level) if remember is None else depth
                entry = JUMP if level == steps - 1 else row(schedule, level, known)
                a[depth, level], c[depth, level] = entry.a, entry.c
                b[depth, level, : len(entry.b)] = entry.b
        tables = (torch.from_numpy(table) for table in (a, b, c))
        return cls(*tables, remember=remember)  # type: ignore[arg-type]

    @property
    def history(self) -> int:
        return self.b.shape[-1] - 1

    @cached_property
    def _rows(self) -> list[list[Row]]:
        """The table in plain numbers, by depth and level."""
        tables = self.a.tolist(), self.b.tolist(), self.c.tolist()
        return [[Row(*row) for row in zip(*of_depth, strict=True)] for of_depth in zip(*tables, strict=True)]

    def is_noisy(self, level: int) -> bool:
        return self._rows[0][level].c > 0

    def extra_looks(self, level: int) -> int:
        return 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        depth = min(len(history), self.history)
        if isinstance(level, int) and not self.history and self.remember is None:
            return self._step(at, level, z)
        denoised = [at.denoised, *history[:depth]]
        memory = None if self.remember is None else self.remember(at, history[:depth])
        if isinstance(level, int):
            a, b, c = self._rows[depth][level]
            x = combine((a, *b[: depth + 1]), at.x, denoised)
            if z is not None and c:
                x.add_(z, alpha=c)
            return Move(x, z, c, memory)
        return self._step_by_row(at, denoised, level, depth, z, memory)

    def _step(self, at: Evaluation, level: int, z: Tensor | None) -> Move:
        """A step without memory, straight from the network's output; its factors are found once."""
        a, (b, *_), c = self._rows[0][level]
        if not a:  # the jump
            x = torch.mul(at.denoised, b)
        else:
            key = (level, at.kind, float(at.t))
            on = self._on_output.get(key)
            if on is None:
                p, q = at.denoised_factors(at.coefficients)
                on = self._on_output[key] = (a + b * p, b * q)
            x = combine(on, at.x, (at.output,))
        if z is not None and c:
            x.add_(z, alpha=c)
        return Move(x, z, c)

    def _step_by_row(
        self,
        at: Evaluation,
        denoised: Sequence[Tensor],
        level: Tensor,
        depth: int,
        z: Tensor | None,
        memory: tuple[Tensor, ...] | None,
    ) -> Move:
        a, c = self.a[depth, level], self.c[depth, level]
        x = at.x * expand_over_event(a, at.x)
        for j, sample in enumerate(denoised):
            x.addcmul_(sample, expand_over_event(self.b[depth, level, j], x).expand_as(x))
        if z is not None:
            x.addcmul_(z, expand_over_event(c, x).expand_as(x))
        return Move(x, z, sent(c, x.device), memory)
