"""Intervals and paired comparisons over groups: bootstrap, seeded."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Interval:
    """A mean over groups with its 95 % bootstrap interval; no interval for a single group."""

    mean: float
    low: float
    high: float
    groups: int

    @property
    def has_width(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Comparison:
    """A paired comparison over common groups: mean difference, its interval, wins (ties count half)."""

    difference: Interval
    wins: float


def interval(values: Sequence[float | None]) -> Interval:
    """Return mean and 95 % interval: bias-corrected and accelerated with scipy, percentiles without.

    Values that are missing or not finite are left out.
    """
    x = np.array([v for v in values if v is not None and math.isfinite(v)], dtype=float)
    if len(x) == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, math.nan, math.nan, len(x))
    if float(np.ptp(x)) == 0:
        return Interval(mean, mean, mean, len(x))
    low, high = _bca(x) if importlib.util.find_spec("scipy") else _percentile(x)
    return Interval(mean, low, high, len(x))


def compare(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Comparison | None:
    """Compare two methods over the same groups in the same order; None without a common group."""
    pairs = [
        (a, b)
        for a, b in zip(ours, theirs, strict=True)
        if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)
    ]
    if not pairs:
        return None
    differences = [a - b for a, b in pairs]
    wins = sum(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in differences)
    return Comparison(interval(differences), wins)


def _bca(x: np.ndarray) -> tuple[float, float]:
    from scipy.stats import bootstrap

    done = bootstrap(
        (x,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=0.95,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(SEED),
    )
    low, high = float(done.confidence_interval.low), float(done.confidence_interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else _percentile(x)


def _percentile(x: np.ndarray) -> tuple[float, float]:
    index = np.random.default_rng(SEED).integers(0, len(x), (RESAMPLES, len(x)))
    low, high = np.quantile(x[index].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
