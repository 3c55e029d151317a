"""iPNDM: Adams-Bashforth with the weights of an even grid, whatever the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.deis import check_points, noise_row
from itscale.solvers.linear_update import LinearUpdate, Row, exponential_row, remember_noise
from itscale.solvers.schedule import Schedule

ADAMS_BASHFORTH: tuple[tuple[float, ...], ...] = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def even_row(schedule: Schedule, level: int, depth: int) -> Row:
    """``y + (kappa_+ - kappa) sum_j AB_j E_(i-j)``."""
    if schedule.is_noise(level):
        return exponential_row(schedule, level)
    gap = schedule.kappa(level + 1) - schedule.kappa(level)
    return noise_row(schedule, level, [gap * w for w in ADAMS_BASHFORTH[depth]])


@dataclass(frozen=True)
class IPNDM:
    """Adams-Bashforth in ``kappa`` with constant weights: robust in few steps, order 2 on uneven grids.

    One evaluation a step. The weights assume equal steps in kappa, which hardly a grid has: more than two
    points make errors smaller, not their order higher.

    Attributes:
        points: noises that are combined, 1 to 4.

    Reference:
        Zhang and Chen (2023), arXiv:2204.13902, iPNDM; Liu et al. (2022), "Pseudo Numerical Methods
        for Diffusion Models on Manifolds", arXiv:2202.09778.
    """

    points: int = 4
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points("IPNDM", self.points)

    @property
    def order(self) -> int:
        return min(self.points, 2)

    @property
    def history(self) -> int:
        return self.points - 1

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        schedule = Schedule.of(process, times)
        return LinearUpdate.build(schedule, even_row, self.history, remember_noise)
