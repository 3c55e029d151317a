"""Problems whose answers are known, and distances between samples and answers.

All mixtures are float64 and exact; the figures with them were obtained by the closed forms of
``GaussianMixture`` and, independently, by quadrature (``tests/models/test_analytic.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.interpolants import Interpolant
from itscale.models.analytic import GaussianMixture


@dataclass(frozen=True)
class TiltedTruth:
    """Answers for the linear reward ``DIRECTION . x`` on :func:`mixture_2d`, to three digits."""

    tilt: float
    mode_weights: tuple[float, ...]
    expected_reward: float
    log_evidence: float


DIRECTION = (1.0, 0.5)
BASE_EXPECTED_REWARD = -0.0375
TILT_1 = TiltedTruth(1.0, (0.014, 0.517, 0.049, 0.419), 2.571, 1.623)
TILT_3 = TiltedTruth(3.0, (0.000, 0.281, 0.001, 0.719), 3.199, 7.534)


def mixture_2d(interpolant: Interpolant | str = "linear") -> GaussianMixture:
    """Four well-separated components of unequal weight and width in the plane."""
    return GaussianMixture(
        [0.45, 0.25, 0.20, 0.10],
        [[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0], [3.0, 0.0]],
        [0.5, 0.4, 0.6, 0.3],
        interpolant=interpolant,
        dtype=torch.float64,
    )


def gm2(interpolant: Interpolant | str = "linear") -> GaussianMixture:
    """The planar mixture on which orders of convergence are tabulated: ``kappa`` 20 to 0.05, 256 starts."""
    return GaussianMixture(
        [0.30, 0.25, 0.25, 0.20],
        [[1.5, 0.0], [-1.0, 1.0], [-0.6, -1.2], [0.4, 1.6]],
        [0.35, 0.30, 0.40, 0.30],
        interpolant=interpolant,
        dtype=torch.float64,
    )


def mixture_1d(interpolant: Interpolant | str = "linear") -> GaussianMixture:
    """Three components on the line, for marginals of SDEs measured by :func:`quantile_w1`."""
    return GaussianMixture(
        [0.40, 0.35, 0.25],
        [[-1.5], [0.3], [1.8]],
        [0.30, 0.25, 0.40],
        interpolant=interpolant,
        dtype=torch.float64,
    )


def mixture_16d(seed: int = 0, interpolant: Interpolant | str = "linear") -> GaussianMixture:
    """Eight equal components of width 0.5 in 16 dimensions with means from ``1.2 N(0, I)``."""
    means = 1.2 * torch.randn(8, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return GaussianMixture([1.0] * 8, means, [0.5] * 8, interpolant=interpolant, dtype=torch.float64)


def sliced_wasserstein_2(a: Tensor, b: Tensor, directions: int = 128, seed: int = 0) -> float:
    """Root mean square over random directions of the W2 distance between projections of two samples.

    Samples ``(n, d)`` and ``(m, d)``, compared at ``max(n, m)`` quantiles. Two samples from one law do not
    give 0: 0.02 to 0.04 for 40 000 points of :func:`mixture_2d`, most of it from the counts of the modes.
    """
    a, b = a.double(), b.double()
    normal = torch.randn(
        a.shape[1], directions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    normal = normal / normal.norm(dim=0)
    size = max(len(a), len(b))
    difference = _quantiles(a @ normal, size) - _quantiles(b @ normal, size)
    return float(difference.square().mean().sqrt())


def quantile_w1(samples: Tensor, mixture: GaussianMixture) -> float:
    """W1 distance of samples ``(n,)`` or ``(n, 1)`` to a one-dimensional mixture, by its exact quantiles."""
    ordered = samples.double().flatten().sort().values
    levels = (torch.arange(len(ordered), dtype=torch.float64) + 0.5) / len(ordered)
    low = torch.full_like(levels, float((mixture.means[:, 0] - 12 * mixture.stds).min()))
    high = torch.full_like(levels, float((mixture.means[:, 0] + 12 * mixture.stds).max()))
    for _ in range(60):  # bisection: the bracket shrinks below 1e-15
        middle = (low + high) / 2
        below = cdf_1d(mixture, middle) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return float((ordered - (low + high) / 2).abs().mean())


def cdf_1d(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """Distribution function of a one-dimensional mixture's data."""
    z = (x[..., None] - mixture.means[:, 0]) / mixture.stds
    return torch.special.ndtr(z) @ mixture.weights


def _quantiles(values: Tensor, size: int) -> Tensor:
    """Empirical quantiles ``(size, directions)`` at the midpoints of ``size`` equal cells."""
    index = ((torch.arange(size, dtype=torch.float64) + 0.5) / size * len(values)).floor().long()
    return values.sort(dim=0).values[index]
