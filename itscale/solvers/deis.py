"""Adams-Bashforth methods with exact weights for a grid: LMS and DEIS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itscale.errors import ConfigError, unknown_name
from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import LinearUpdate, Row, exponential_row, remember_noise
from itscale.solvers.schedule import Schedule

Nodes = Literal["kappa", "log-kappa", "time"]
Axis: TypeAlias = Callable[[Schedule, NDArray[np.float64]], NDArray[np.float64]]
"""``(schedule, kappa) -> position``: in what the noise is taken for a polynomial."""

AXES: dict[str, Axis] = {
    "kappa": lambda schedule, kappa: kappa,
    "log-kappa": lambda schedule, kappa: np.log(kappa),
    "time": lambda schedule, kappa: schedule.process.interpolant.t_of_kappa(torch.from_numpy(kappa)).numpy(),
}
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


def noise_row(schedule: Schedule, level: int, on_noise: list[float]) -> Row:
    """``y + sum_j c_j E_(i-j)`` with ``y = x / alpha``; the newest E is written out in x and D."""
    alpha, sigma, c = schedule.alpha[level], schedule.sigma[level], on_noise[0]
    ahead = schedule.alpha[level + 1]
    return Row(
        ahead / alpha + ahead * c / sigma,
        (-ahead * c * alpha / sigma, *(ahead * v for v in on_noise[1:])),
        0.0,
    )


def adams_weights(schedule: Schedule, level: int, depth: int, nodes: str) -> list[float]:
    """Integrals of the Lagrange polynomials over the step in ``kappa``, by quadrature in its logarithm.

    A noise from infinite ``kappa`` has no part in a polynomial in ``kappa`` or its logarithm.
    """
    axis, kappa = AXES[nodes], np.array([schedule.kappa(level - j) for j in range(depth + 1)])
    kappa = kappa if nodes == "time" else kappa[np.isfinite(kappa)]
    points = axis(schedule, kappa).tolist()
    start, end = math.log(kappa[0]), math.log(schedule.kappa(level + 1))
    abscissae = np.exp(start + (end - start) * (_NODES + 1) / 2)
    at, factor = axis(schedule, abscissae), (end - start) / 2 * _WEIGHTS * abscissae
    weights: list[float] = []
    for j, p in enumerate(points):
        others = points[:j] + points[j + 1 :]
        weights.append(float(np.sum(factor * math.prod((at - q) / (p - q) for q in others))))
    return weights


def adams_bashforth(process: ContinuousProcess, times: Tensor, points: int, nodes: str) -> LinearUpdate:
    """The method whose polynomial in ``nodes`` runs through ``points`` noises."""

    def row(schedule: Schedule, level: int, depth: int) -> Row:
        if schedule.is_noise(level):
            return exponential_row(schedule, level)
        return noise_row(schedule, level, adams_weights(schedule, level, min(depth, level), nodes))

    return LinearUpdate.build(Schedule.of(process, times), row, history=points - 1, remember=remember_noise)


def check_points(solver: str, points: int, most: int = 4) -> None:
    if isinstance(points, bool) or not isinstance(points, int) or not 1 <= points <= most:
        raise ConfigError(f"{solver} needs points from 1 to {most}, got {points!r}")


@dataclass(frozen=True)
class DEIS:
    """Order ``points`` at one evaluation a step: the noise as a polynomial, integrated exactly.

    Attributes:
        points: noises that the polynomial runs through, 1 to 4. The paper's tAB3 counts the degree: 4 points.
        nodes: what it is a polynomial in: ``log-kappa``, the path's ``time`` (tAB), or ``kappa`` (rhoAB).

    Reference:
        Zhang and Chen (2023), "Fast Sampling of Diffusion Models with Exponential Integrator",
        arXiv:2204.13902, tAB-DEIS and rhoAB-DEIS.
    """

    points: int = 3
    nodes: Nodes = "log-kappa"
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points("DEIS", self.points)
        if self.nodes not in get_args(Nodes):
            raise unknown_name("kind of nodes of DEIS", str(self.nodes), get_args(Nodes))

    @property
    def order(self) -> int:
        return self.points

    @property
    def history(self) -> int:
        return self.points - 1

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return adams_bashforth(process, times, self.points, self.nodes)


@dataclass(frozen=True)
class LMS:
    """Adams-Bashforth in ``kappa`` with weights for the grid: order ``points``, one evaluation a step.

    Attributes:
        points: noises that the polynomial runs through, 1 to 4.

    Reference:
        Hairer, Norsett and Wanner (1993), "Solving Ordinary Differential Equations I", chapter III.5; DEIS
        with nodes in kappa.
    """

    points: int = 4
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points("LMS", self.points)

    @property
    def order(self) -> int:
        return self.points

    @property
    def history(self) -> int:
        return self.points - 1

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return adams_bashforth(process, times, self.points, "kappa")
