"""GM-ODE: several steps of the ODE per evaluation, with the denoised samples that a mixture implies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.mixture_posterior import Posterior, check_mixture
from itscale.solvers.schedule import Schedule


class SubStep(NamedTuple):
    """Where a step inside a step begins, relative to the level, and the DDIM factors that leave it.

    The state x' there adds to what the level's state x says of the data: a Gaussian factor of this
    ``precision`` and of the pull ``on_now x' - on_start x``.
    """

    precision: float
    on_now: float
    on_start: float
    a: float
    b: float


@dataclass(frozen=True)
class GMODEKernel:
    """One posterior per level, carried on analytically."""

    process: ContinuousProcess
    steps: tuple[tuple[SubStep, ...], ...]
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        if level == len(self.steps):
            return Move(at.denoised)
        posterior, x = Posterior.at(self.process, at.x, at.t), at.x
        for precision, on_now, on_start, a, b in self.steps[level]:
            pull = torch.mul(x, on_now).sub_(at.x, alpha=on_start)
            x = torch.mul(x, a).add_(posterior.tilted(precision, pull).mean, alpha=b)
        return Move(x)


@dataclass(frozen=True)
class GMODE:
    """DDIM in ``substeps`` steps per evaluation, equal in log-SNR: order 1, no memory.

    Between evaluations the denoised sample is that of the level's mixture, by Bayes' rule; with an exact
    mixture it is the exact one, and the error that of DDIM in ``substeps`` times as many steps. Needs a model
    with a method ``posterior(x, t)``, such as ``GaussianMixture``.

    Left out: the second-order variants, which correct a network's error between levels (they change nothing
    where the mixture is exact), probabilistic guidance, and components per pixel. No published figure was
    reproduced.

    Attributes:
        substeps: per step; the published number is 4.

    Reference:
        Chen et al. (2025), "Gaussian Mixture Flow Matching Models", arXiv:2504.05304, GM-ODE solver.
    """

    substeps: int = 4
    is_stochastic: ClassVar[bool] = False
    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.substeps, bool) or not isinstance(self.substeps, int) or self.substeps < 1:
            raise ConfigError(f"substeps must be a whole number >= 1, got {self.substeps!r}")

    def build(self, process: ContinuousProcess, times: Tensor) -> GMODEKernel:
        check_mixture("GMODE", process, "dpm++2m")
        schedule = Schedule.of(process, times)
        return GMODEKernel(process, tuple(self._step(schedule, level) for level in range(schedule.steps - 1)))

    def _step(self, schedule: Schedule, level: int) -> tuple[SubStep, ...]:
        path, first = schedule.process.interpolant, schedule.kappa(level)
        kappas = _between(first, schedule.kappa(level + 1), self.substeps)
        t = [
            schedule.t[level],
            *(float(path.t_of_kappa(k)) for k in kappas[1:-1]),
            schedule.t[level + 1],
        ]
        alpha, sigma = ([float(f(v)) for v in t] for f in (path.alpha, path.sigma))
        steps = []
        for j in range(self.substeps):
            # 1/kappa'^2 - 1/kappa^2, as a product
            here = 0.0 if j == 0 else (1 - kappas[j] / first) * (1 + kappas[j] / first) / kappas[j] ** 2
            a = sigma[j + 1] / sigma[j]
            on_now, on_start = alpha[j] / sigma[j] ** 2, alpha[0] / sigma[0] ** 2
            steps.append(SubStep(here, on_now, on_start, a, alpha[j + 1] - alpha[j] * a))
        return tuple(steps)


def _between(first: float, last: float, parts: int) -> list[float]:
    """Ratios equal in logarithm; from pure noise equal in their inverse."""
    u = [j / parts for j in range(1, parts)]
    if math.isinf(first):
        inner = [last / v for v in u]
    else:
        inner = [first * (last / first) ** v for v in u]
    return [first, *inner, last]
