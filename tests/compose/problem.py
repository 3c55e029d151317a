"""One-dimensional mixtures whose products are integrated on a grid, and how far weighted samples are off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import itscale
from itscale.models import GaussianMixture

EDGE, POINTS, BINS = 8.0, 80001, 60


def mixture(weights, means, stds, path: Any = "vp") -> GaussianMixture:
    return GaussianMixture(weights, [[m] for m in means], stds, interpolant=path, dtype=torch.float64)


def experts(path: Any = "vp") -> tuple[GaussianMixture, GaussianMixture]:
    return mixture([0.3, 0.7], [-1.5, 1.0], [0.5, 0.35], path), mixture(
        [0.6, 0.4], [-1.2, 0.3], [0.4, 0.3], path
    )


def guided(path: Any = "vp") -> tuple[GaussianMixture, GaussianMixture]:
    """A condition, and the model without it."""
    means, stds = [-1.5, 1.2], [0.6, 0.5]
    return mixture([0.1, 0.9], means, stds, path), mixture([0.5, 0.5], means, stds, path)


@dataclass(frozen=True)
class Truth:
    """A density on a grid: points, probabilities, moments, log of the normaliser."""

    x: Tensor
    p: Tensor
    mean: float
    variance: float
    log_z: float

    @classmethod
    def of(cls, log_density: Callable[[Tensor], Tensor]) -> Truth:
        x = torch.linspace(-EDGE, EDGE, POINTS, dtype=torch.float64)
        log_p = log_density(x[:, None])
        p = torch.softmax(log_p, 0)
        mean = float(p @ x)
        width = 2 * EDGE / (POINTS - 1)
        return cls(
            x, p, mean, float(p @ (x - mean) ** 2), float(log_p.logsumexp(0) + torch.tensor(width).log())
        )

    def distance(self, samples: Tensor, weights: Tensor) -> float:
        """Total variation over 60 bins that cover all but 2e-5 of the mass, the outer ones open."""
        total = self.p.cumsum(0)
        low, high = (float(self.x[torch.searchsorted(total, q)]) for q in (1e-5, 1 - 1e-5))
        edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)[1:-1]

        def shares(values: Tensor, mass: Tensor) -> Tensor:
            return torch.zeros(BINS, dtype=torch.float64).index_add(0, torch.bucketize(values, edges), mass)

        return float((shares(samples, weights) - shares(self.x, self.p)).abs().sum() / 2)


def grid(path, steps, t_start):
    """Uniform times, the last of them so late that the jump after it changes nothing."""
    times = torch.linspace(t_start, 0.9999, steps, dtype=torch.float64)
    return torch.cat([times, torch.ones(1, dtype=torch.float64)])


def errors(result: itscale.Result, truth: Truth) -> dict[str, float]:
    x, w = result.samples[0, :, 0].double(), result.weights[0]
    mean = float(w @ x)
    return {
        "mean": mean - truth.mean,
        "variance": float(w @ (x - mean) ** 2) - truth.variance,
        "tv": truth.distance(x, w),
        "log_z": float(result.log_evidence[0]) - truth.log_z,
        "ess": float(1 / (w**2).sum()) / len(w),
    }
