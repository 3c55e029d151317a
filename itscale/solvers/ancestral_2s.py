"""Ancestral sampling with a second-order step inside: DPM-Solver++(2S) down, then noise up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_sde import Form, Notebook, StagedSDE


@dataclass(frozen=True)
class Ancestral2S:
    """Solve the ODE to below the next noise level by DPM-Solver++(2S), then add noise up to that level.

    Weak order 2, two evaluations a step, no memory. The noise enters after both looks, so the transition is
    Gaussian with standard deviation ``eta_ddim`` times what the process's coefficient adds over the step.

    Reference:
        Song, Meng and Ermon (2021), arXiv:2010.02502, the family with eta, for the noise; Lu et al.
        (2022), arXiv:2211.01095, DPM-Solver++(2S), for the step.
    """

    eta_ddim: float = 1.0
    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.eta_ddim <= 1:
            raise ConfigError(f"eta_ddim must be in (0, 1], got {self.eta_ddim!r}")

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedSDE:
        path = process.interpolant

        def step(note: Notebook) -> Form:
            schedule, level = note.schedule, note.level
            alpha, alpha1 = schedule.alpha[level], schedule.alpha[level + 1]
            std = self.eta_ddim * schedule.noise_std(level)
            down = math.sqrt(schedule.sigma[level + 1] ** 2 - std**2) / alpha1
            kappa = schedule.kappa(level)
            # halfway in log-SNR, but not beyond the next level, where a path may end
            middle = max(math.sqrt(kappa * down), schedule.kappa(level + 1))
            t = float(path.t_of_kappa(middle))
            y = note.x / alpha
            inside = middle / kappa * y + (1 - middle / kappa) * note.D
            there = note.denoised(float(path.alpha(t)) * inside, t)
            part = math.log(kappa / middle) / math.log(kappa / down)  # 1/2 unless the middle was moved
            mixed = (1 - 1 / (2 * part)) * note.D + there / (2 * part)
            return alpha1 * (down / kappa * y + (1 - down / kappa) * mixed) + std * note.z()

        return StagedSDE.build(Schedule.of(process, times), step)
