"""Classical Runge-Kutta methods in the noise-to-signal ratio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers import staged_update
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_update import StagedUpdate, runge_kutta


@dataclass(frozen=True)
class EDMHeun:
    """Heun's method in ``kappa`` on any path, as EDM samples: order 2, two evaluations a step, no memory.

    On the path ``edm`` this is ``heun``; elsewhere ``heun`` works in the path's own time.

    Reference:
        Karras et al. (2022), arXiv:2206.00364, Algorithm 1. Their sigma is kappa.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedUpdate:
        tableau = staged_update.HEUN
        return StagedUpdate.build(Schedule.of(process, times), partial(runge_kutta, tableau=tableau), tableau)


@dataclass(frozen=True)
class RK4:
    """The classical Runge-Kutta method in ``kappa``: order 4, four evaluations a step; for reference runs.

    Reference:
        Hairer, Norsett and Wanner (1993), "Solving Ordinary Differential Equations I", table II.1.2.
    """

    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 4
    evaluations: ClassVar[int] = 4
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedUpdate:
        tableau = staged_update.RK4
        return StagedUpdate.build(Schedule.of(process, times), partial(runge_kutta, tableau=tableau), tableau)
