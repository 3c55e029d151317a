"""Numbers that every coefficient table is made of, in float64, once per grid."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from itscale.grids import validate_grid
from itscale.interpolants import Interpolant, is_fixed
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
        is_plain = type(process).g is ContinuousProcess.g and is_fixed(path) and is_fixed(coefficient)
        found = _found_once(path, coefficient, *t) if is_plain else _numbers(process.g, path, coefficient, *t)
        return cls(t, *(list(numbers) for numbers in found), process=process)

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


Numbers: TypeAlias = tuple[tuple[float, ...], ...]


def _numbers(g: Callable[[float], float], path: Interpolant, coefficient: Any, *t: float) -> Numbers:
    """Alpha and sigma at the grid points, g at all but the last, exponents of all intervals but the last.

    The last interval is a jump, which needs neither.
    """
    return (
        tuple(float(path.alpha(v)) for v in t),
        tuple(float(path.sigma(v)) for v in t),
        tuple(g(v) for v in t[:-1]),
        tuple(coefficient.exponent(a, b, path) for a, b in itertools.pairwise(t[:-1])),
    )


@functools.lru_cache(maxsize=64)
def _found_once(path: Interpolant, coefficient: Any, *t: float) -> Numbers:
    """The numbers of plain processes on a path, which every run on the same grid asks for."""
    return _numbers(lambda v: coefficient(v, path), path, coefficient, *t)


def _runs_back(times: Tensor) -> bool:
    """Whether times fall from data to noise, with the jump to the data that nobody makes at the end."""
    return len(times) > 2 and float(times[-1]) == 1 and bool((times[:-1].diff() < 0).all())
