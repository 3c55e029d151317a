"""PLMS: what PNDM schedulers do without their Runge-Kutta steps, to the last step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale import interpolants
from itscale.interpolants import Interpolant, coefficients
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.linear_update import combine

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of an even grid on outputs, newest first, by how many there are."""


@dataclass(frozen=True)
class PLMSKernel:
    """Moves by a mean of outputs; its last move, too, is such a one, and no jump to the denoised sample."""

    path: Interpolant
    times: Tensor
    left: float
    gaussian: bool = False
    history: int = 3
    takes_levels: bool = False

    @property
    def last(self) -> int:
        return len(self.times) - 2

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return int(level == 0 < self.last)

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        if self.extra_looks(level):
            ahead = look(self._moved(at, at.raw, level), level + 1)
            return Move(self._moved(at, (at.raw + ahead.raw) / 2, level), memory=(at.raw,))
        outputs = (at.raw, *history)
        mean = combine((0.0, *ADAMS_BASHFORTH[len(outputs) - 1]), at.x, outputs)
        return Move(self._moved(at, mean, level), memory=outputs[: self.history])

    def _moved(self, at: Evaluation, output: Tensor, level: int) -> Tensor:
        """Keep the sample that goes with an output, at the next level's share of its noise."""
        x, here = at.x, at.coefficients
        noise = interpolants.noise(at.kind, output, x, here)
        alpha, sigma = float(here.alpha), float(here.sigma)
        if level == self.last:
            alpha_next = 1 / math.hypot(1.0, self.left)
            sigma_next = self.left * alpha_next
        else:
            there = coefficients(self.path, self.times[level + 1])
            alpha_next, sigma_next = float(there.alpha), float(there.sigma)
        return combine((alpha_next / alpha, sigma_next - alpha_next * sigma / alpha), x, (noise,))


@dataclass(frozen=True)
class PLMS:
    """Pseudo linear multistep: two evaluations in the first step, one in the others; to reproduce pipelines.

    Stable Diffusion's first releases sample so. ``ipndm`` is better at equal cost: it needs no even grid.

    Attributes:
        left: noise-to-signal ratio of what is handed over.

    Reference:
        Liu et al. (2022), "Pseudo Numerical Methods for Diffusion Models on Manifolds", arXiv:2202.09778,
        S-PNDM's first step, then Adams-Bashforth.
    """

    left: float = 0.0

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 3
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> PLMSKernel:
        return PLMSKernel(process.interpolant, times, self.left)
