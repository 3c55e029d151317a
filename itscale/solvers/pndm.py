"""PNDM: three pseudo-Runge-Kutta steps, then Adams-Bashforth with the weights of an even grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.ipndm import even_row
from itscale.solvers.linear_update import LinearUpdate, remember_noise
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_update import RK4, Form, StagedUpdate, Step

WARM_UP = 3


def pseudo_runge_kutta(step: Step) -> Form:
    """The weights of RK4 on noises, with the middle of the step halfway in time."""
    middle, gap = float(step.path.kappa((step.t + step.t_next) / 2)), step.kappa_next - step.kappa
    half = middle - step.kappa
    first = step.E
    second = step.noise(step.y + half * first, middle)
    third = step.noise(step.y + half * second, middle)
    fourth = step.noise(step.y + gap * third, step.kappa_next)
    return step.y + gap * (first + 2 * second + 2 * third + fourth) / 6


@dataclass(frozen=True)
class PNDMKernel:
    """Stages in the first levels, the linear update after them."""

    warm_up: StagedUpdate
    rest: LinearUpdate
    gaussian: bool = False
    history: int = 3
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return self.warm_up.extra_looks(level) if level < WARM_UP else 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        if level >= WARM_UP:
            return self.rest(at, history, level, look, z)
        return replace(self.warm_up(at, (), level, look, z), memory=remember_noise(at, history))


@dataclass(frozen=True)
class PNDM:
    """F-PNDM: order 2; one evaluation a step, four in each of the first three; to reproduce other libraries.

    ``ipndm`` without the first steps' extra evaluations is better at equal cost.

    Reference:
        Liu et al. (2022), "Pseudo Numerical Methods for Diffusion Models on Manifolds", arXiv:2202.09778,
        F-PNDM.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 3
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> PNDMKernel:
        schedule = Schedule.of(process, times)
        return PNDMKernel(
            StagedUpdate.build(schedule, pseudo_runge_kutta, RK4),
            LinearUpdate.build(schedule, even_row, self.history, remember_noise),
        )
