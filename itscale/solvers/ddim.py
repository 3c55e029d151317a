"""DDIM, which is Euler's method on the linear and on the variance-exploding path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import LinearUpdate, exponential_row
from itscale.solvers.schedule import Schedule


@dataclass(frozen=True)
class DDIM:
    """Exponential Euler for the ODE: exact in one step where the denoised sample does not change.

    One evaluation a step, order 1, no memory.

    Reference:
        Song, Meng and Ermon (2021), "Denoising Diffusion Implicit Models", arXiv:2010.02502, with
        eta = 0. Also DPM-Solver-1.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return LinearUpdate.build(Schedule.of(process, times), exponential_row)
