"""Predictor-corrector: an exponential step, then Langevin moves at the new noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import exponential_row
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_sde import Form, Notebook, StagedSDE, exponential


@dataclass(frozen=True)
class Langevin:
    """The ancestral step as predictor, then ``corrections`` Langevin moves ``x + e score + sqrt(2 e) z``.

    Weak order 1; ``1 + corrections`` evaluations and as many standard normals a step, no memory; the
    transition is not Gaussian. The moves are not adjusted: at a level they leave the variance too large by
    up to ``snr^2`` of its noise part, however many steps there are.

    A departure: the published step size ``2 (snr |z| / |score|)^2`` averages norms over the batch, which
    would make a sample depend on its neighbours; as ``|score|`` is about ``|z| / sigma``, it is
    ``e = 2 (snr sigma)^2`` here.

    Reference:
        Song et al. (2021), "Score-Based Generative Modeling through Stochastic Differential Equations",
        arXiv:2011.13456, predictor-corrector samplers. Default: its 0.16 for CIFAR-10.
    """

    snr: float = 0.16
    corrections: int = 1
    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 1
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.snr < 1:
            raise ConfigError(f"snr must be in (0, 1), where Langevin moves are stable, got {self.snr!r}")
        if (
            isinstance(self.corrections, bool)
            or not isinstance(self.corrections, int)
            or self.corrections < 1
        ):
            raise ConfigError(
                f"corrections must be a whole number >= 1, got {self.corrections!r}; for 0 use 'ancestral'"
            )

    @property
    def evaluations(self) -> int:
        return 1 + self.corrections

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedSDE:
        def step(note: Notebook) -> Form:
            schedule, after = note.schedule, note.level + 1
            x = exponential(note, exponential_row(schedule, note.level))
            alpha, sigma = schedule.alpha[after], schedule.sigma[after]
            size = 2 * (self.snr * sigma) ** 2
            for j in range(self.corrections):
                score = (alpha * note.denoised(x, schedule.t[after]) - x) / sigma**2
                x = x + size * score + math.sqrt(2 * size) * note.z(1 + j)
            return x

        schedule = Schedule.of(process, times)
        return StagedSDE.build(schedule, step, looks=self.evaluations, normals=self.evaluations)
