"""Products of one-dimensional mixtures against densities on a grid: weighted samples, and the usual shortcut.

    python -m itscale.experiments.compose_mixtures

Prints a table: total variation to the law of unweighted samples that follow the sum of scores, and of
weighted ones with the published drift and with ours, and the error of the evidence.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itscale.methods import FKC
from itscale.models import GaussianMixture
from itscale.process import ODE, SDE
from itscale.result import Result
from itscale.sampling import sample

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


def errors(result: Result, truth: Truth) -> dict[str, float]:
    """Errors of weighted samples: mean, variance, total variation, evidence; and the ESS over N."""
    x, w = result.samples[0, :, 0].double(), result.weights[0]
    mean = float(w @ x)
    return {
        "mean": mean - truth.mean,
        "variance": float(w @ (x - mean) ** 2) - truth.variance,
        "tv": truth.distance(x, w),
        "log_z": float(result.log_evidence[0]) - truth.log_z,
        "ess": float(1 / (w**2).sum()) / len(w),
    }


ROWS: tuple[tuple[str, str, Any, Any, Any], ...] = (
    ("q^3", "vp", experts, (3, 0), SDE()),
    ("q^(1/2)", "vp", experts, (0.5, 0), SDE()),
    ("q^(1/2) p^(1/2)", "vp", experts, (0.5, 0.5), SDE()),
    ("q p", "vp", experts, (1, 1), SDE()),
    ("(q p)^2", "vp", experts, (2, 2), SDE()),
    ("q^1.5 p^0.7", "vp", experts, (1.5, 0.7), SDE()),
    ("guidance 2", "vp", guided, (2, -1), SDE()),
    ("guidance 4", "vp", guided, (4, -3), SDE()),
    ("q^3", "ve", experts, (3, 0), SDE()),
    ("q^3", "linear", experts, (3, 0), SDE()),
    ("guidance 2, ODE", "linear", guided, (2, -1), ODE()),
)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--particles", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    print("| law | path | shortcut | published | weighted | log Z off by |")
    print("| --- |" + " --- |" * 5)
    for name, path, pair, (one, other), process in ROWS:
        a, b = pair(path)
        law = a**one * b**other if other else a**one
        truth = Truth.of(lambda x, a=a, b=b, p=one, q=other: p * a.log_prob(x) + q * b.log_prob(x))

        def off(law: Any, method: Any, process: Any = process, truth: Truth = truth) -> dict[str, float]:
            done = sample(law, method=method, n=args.particles, steps=args.steps, process=process, grid=grid)
            return errors(done, truth)

        plain = law.corrected(gauge="none")
        cells = [off(plain, "unguided")["tv"], off(plain, FKC())["tv"]]
        best = off(law, FKC())
        text = " | ".join(f"{tv:.3f}" for tv in (*cells, best["tv"]))
        print(f"| {name} | {path} | {text} | {best['log_z']:+.3f} |", flush=True)


if __name__ == "__main__":
    main()
