"""EDM's stochastic sampler: Heun's method for the ODE, with noise added between steps ("churn")."""

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
class Churn:
    """Heun's method to below the next noise level, then noise up to that level; runs on ``ODE()``.

    The published loop adds noise first, from ``kappa`` to ``kappa (1 + gamma)`` with
    ``gamma = min(s_churn / steps, sqrt(2) - 1)``, and then solves to the next ``kappa``. This is the same
    chain seen after the noise: its levels are the published ones times ``1 + gamma`` where noise is added.
    So the look that every level gets is the one that the step needs (two evaluations a step, not three), and
    the transition is Gaussian. Order 2 in noise-to-signal ratio, no memory.

    Attributes:
        s_churn: amount of noise; 0 would be ``heun``.
        s_min, s_max: noise-to-signal ratios between which noise is added (those before it is added). Never
            below the least ratio that the path's models know.
        s_noise: factor on the added noise. Other than 1 it leaves a bias that more steps do not remove.

    Reference:
        Karras et al. (2022), arXiv:2206.00364, Algorithm 2. Its sigma is sigma/alpha here.
    """

    s_churn: float = 40.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    is_stochastic: ClassVar[bool] = False
    brings_noise: ClassVar[bool] = True
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.s_churn < math.inf:
            raise ConfigError(f"s_churn must be positive and finite, got {self.s_churn!r}; for 0 use 'heun'")
        if not 0 <= self.s_min < self.s_max:
            raise ConfigError(f"churn needs 0 <= s_min < s_max, got {self.s_min!r} and {self.s_max!r}")
        if not 0 < self.s_noise < math.inf:
            raise ConfigError(f"s_noise must be positive and finite, got {self.s_noise!r}")

    def build(self, process: ContinuousProcess, times: Tensor) -> StagedSDE:
        path = process.interpolant
        least = max(self.s_min, float(path.kappa(path.t_max)))
        gamma = min(self.s_churn / (len(times) - 1), math.sqrt(2) - 1)

        def step(note: Notebook) -> Form:
            schedule, level = note.schedule, note.level
            kappa, after = schedule.kappa(level), schedule.kappa(level + 1)
            lower = after / (1 + gamma)
            is_churned = least <= lower <= self.s_max
            down = lower if is_churned else after
            t = float(path.t_of_kappa(down)) if is_churned else schedule.t[level + 1]
            y = note.x / schedule.alpha[level]
            noise = (y - note.D) / kappa
            guess = y + (down - kappa) * noise
            slope = (guess - note.denoised(float(path.alpha(t)) * guess, t)) / down
            y = y + (down - kappa) / 2 * (noise + slope)
            spread = self.s_noise * math.sqrt(after**2 - down**2)
            return schedule.alpha[level + 1] * (y + spread * note.z())

        return StagedSDE.build(Schedule.of(process, times), step)
