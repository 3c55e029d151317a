"""Numbers that every coefficient table is made of, in float64, once per grid."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from itscale.process import ContinuousProcess

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)


@dataclass(frozen=True)
class Schedule:
    """A process on a grid.

    Attributes:
        t, alpha, sigma: at the T + 1 grid points.
        g: diffusion coefficient at the first T points (inf is possible at the noise end).
        exponent: per interval, how much of the noise is forgotten: ``exp(-exponent)`` of it is kept.
        variance: per interval, the integral of g^2.
    """

    t: list[float]
    alpha: list[float]
    sigma: list[float]
    g: list[float]
    exponent: list[float]
    variance: list[float]

    @classmethod
    def of(cls, process: ContinuousProcess, times: Tensor) -> Schedule:
        t = [float(v) for v in times]
        path, coefficient = process.interpolant, process.diffusion
        intervals = list(itertools.pairwise(t[:-1]))  # the last interval is a jump and needs neither
        return cls(
            t=t,
            alpha=[float(path.alpha(v)) for v in t],
            sigma=[float(path.sigma(v)) for v in t],
            g=[process.g(v) for v in t[:-1]],
            exponent=[coefficient.exponent(a, b, path) for a, b in intervals],
            variance=[_integral_of_square(process, a, b) for a, b in intervals],
        )

    @property
    def steps(self) -> int:
        return len(self.t) - 1

    def is_noise(self, level: int) -> bool:
        """Whether the state at this level carries no information on the data."""
        return self.alpha[level] == 0

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


def _integral_of_square(process: ContinuousProcess, t0: float, t1: float) -> float:
    if math.isinf(process.g(t0)):
        return math.inf
    half = (t1 - t0) / 2
    return float(half * np.dot(_NODE_WEIGHTS, [process.g(v) ** 2 for v in t0 + half * (_NODES + 1)]))
