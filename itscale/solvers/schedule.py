"""Numbers that every coefficient table is made of, in float64, once per grid."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from itscale.grids import validate_grid
from itscale.process import ContinuousProcess

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


@dataclass(frozen=True)
class Schedule:
    """A process on a grid.

    Attributes:
        t, alpha, sigma: at the T + 1 grid points.
        g: diffusion coefficient at the first T points (inf is possible at the noise end).
        exponent: per interval, how much of the noise is forgotten: ``exp(-exponent)`` of it is kept.
    """

    t: list[float]
    alpha: list[float]
    sigma: list[float]
    g: list[float]
    exponent: list[float]
    process: ContinuousProcess

    @classmethod
    def of(cls, process: ContinuousProcess, times: Tensor) -> Schedule:
        if not _runs_back(times):
            times = validate_grid(times)
        t = times.tolist()
        path, coefficient = process.interpolant, process.diffusion
        intervals = list(itertools.pairwise(t[:-1]))  # the last interval is a jump and needs neither
        return cls(
            t=t,
            alpha=[float(path.alpha(v)) for v in t],
            sigma=[float(path.sigma(v)) for v in t],
            g=[process.g(v) for v in t[:-1]],
            exponent=[coefficient.exponent(a, b, path) for a, b in intervals],
            process=process,
        )

    def variance(self, level: int) -> float:
        """The integral of g^2 over the interval: the variance of the noise that plain steps add."""
        if math.isinf(self.g[level]):
            return math.inf
        start, half = self.t[level], (self.t[level + 1] - self.t[level]) / 2
        return float(half * np.dot(_WEIGHTS, [self.process.g(start + half * (1 + v)) ** 2 for v in _NODES]))

    @property
    def steps(self) -> int:
        return len(self.t) - 1

    def is_noise(self, level: int) -> bool:
        """Whether the state at this level carries no information on the data."""
        return self.alpha[level] == 0

    def kappa(self, level: int) -> float:
        """The noise-to-signal ratio at this level; infinite for pure noise."""
        return math.inf if self.alpha[level] == 0 else self.sigma[level] / self.alpha[level]

    def log_snr_gain(self, level: int) -> float:
        """The step in half log-SNR from this level; infinite from pure noise."""
        up, down = self.alpha[level + 1] * self.sigma[level], self.alpha[level] * self.sigma[level + 1]
        return math.inf if down == 0 else math.log(up / down)

    def kept(self, level: int) -> float:
        """The factor that the exponential solution puts on x: (sigma_+ / sigma) exp(-exponent)."""
        return self.sigma[level + 1] / self.sigma[level] * math.exp(-self.exponent[level])

    def pulled(self, level: int) -> float:
        """The factor that the exponential solution puts on a constant denoised sample."""
        return self.alpha[level + 1] - self.alpha[level] * self.kept(level)

    def noise_std(self, level: int) -> float:
        """The standard deviation that the exponential solution adds."""
        return self.sigma[level + 1] * math.sqrt(-math.expm1(-2 * self.exponent[level]))


def _runs_back(times: Tensor) -> bool:
    """Whether times fall from data to noise, with the jump to the data that nobody makes at the end."""
    return len(times) > 2 and float(times[-1]) == 1 and bool((times[:-1].diff() < 0).all())
