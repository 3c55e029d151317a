"""The two-step SDE solver on predicted noises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import LinearUpdate, Row, exponential_row, remember_noise
from itscale.solvers.schedule import Schedule


def noise_row(schedule: Schedule, level: int, depth: int) -> Row:
    """``y+ = y - (1 + eta) kappa_+ (J1 E_i + J2 (E_i - E_(i-1)) / r) + sqrt(eta (kappa^2 - kappa_+^2)) z``.

    For any diffusion coefficient eta is its exponent over the step per gain in log-SNR: 1 for the natural
    one. From pure noise the exponential step is taken, which is exact there.
    """
    if schedule.is_noise(level):
        return exponential_row(schedule, level)
    depth = min(depth, level)
    h, alpha, sigma = schedule.log_snr_gain(level), schedule.alpha[level], schedule.sigma[level]
    eta = schedule.exponent[level] / h
    ratio = h / schedule.log_snr_gain(level - 1) if depth else 0.0  # 0 after a step from pure noise
    j1 = math.expm1(h)
    extrapolated = (j1 / h - 1) * ratio
    on_noise = -(1 + eta) * schedule.sigma[level + 1] * (j1 + extrapolated)
    on_previous = (1 + eta) * schedule.sigma[level + 1] * extrapolated
    # E = (x - alpha D) / sigma
    a, b = schedule.alpha[level + 1] / alpha + on_noise / sigma, -on_noise * alpha / sigma
    spread = math.sqrt(eta * (schedule.kappa(level) ** 2 - schedule.kappa(level + 1) ** 2))
    return Row(a, (b, on_previous) if depth else (b,), schedule.alpha[level + 1] * spread)


@dataclass(frozen=True)
class NoiseSDE2M:
    """Weak order 2 for the SDE at one evaluation a step; keeps one predicted noise per row.

    On grids in log-SNR its error in variance is about half of ``2m-sde``'s. Its first step is Euler-Maruyama
    in the noise-to-signal ratio. The transition is Gaussian given the row's history, with the standard
    deviation ``alpha_+ sqrt(kappa^2 - kappa_+^2)``. A uniform grid from pure noise (kappa infinite) makes it
    a first-order method: give it a ``log-snr`` or ``karras`` grid.

    Reference:
        Li et al. (2025), "MRS: A Fast Sampler for Mean Reverting Diffusion", arXiv:2502.07856, noise
        prediction, SDE, order 2; here with mean 0 and for any diffusion coefficient.
    """

    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 1
    gaussian: ClassVar[bool] = True

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        return LinearUpdate.build(Schedule.of(process, times), noise_row, history=1, remember=remember_noise)
