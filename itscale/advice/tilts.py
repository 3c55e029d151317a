"""Tilts from unguided rewards: by their spread, or by the mean reward that is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

ENOUGH = 10.0  # effective samples below which a reweighted mean is not believed
SHARPEST = 64.0  # tilt * sd(r) above which nothing was measured


class Reweighted(NamedTuple):
    """The law of rewards under a tilt, estimated by reweighting unguided ones.

    Attributes:
        gain: mean reward above the unguided mean.
        ess: effective number of samples behind it.
        divergence: of the tilted from the unguided law, in nats.
    """

    gain: float
    ess: float
    divergence: float


def reweighted(deviations: Float64[Tensor, " m"], tilt: float) -> Reweighted:
    """Estimate ``E[r e^(tilt r)] / E[e^(tilt r)]`` from unguided deviations from the mean reward."""
    log_weights = torch.log_softmax(tilt * deviations, 0)
    weights = log_weights.exp()
    divergence = float(weights @ log_weights) + math.log(len(weights))
    return Reweighted(float(weights @ deviations), 1 / float(weights @ weights), divergence)


def divergence_ratio(deviations: Float64[Tensor, " m"], tilt: float) -> float:
    """Return ``2 KL(tilted | base) / (tilt sd)^2``: 1 for Gaussian rewards, less where they have a ceiling.

    With many levels and good values the relative variance of the evidence tends to ``2 KL / N``: the
    expected quadratic variation of log E[e^(tilt r) | x_t] under the tilted law is 2 KL (Girsanov). So this
    is the factor by which a prediction for Gaussian rewards is off. It is 1 where fewer than ``ENOUGH``
    samples count.
    """
    spread = tilt**2 * float(deviations.square().mean())
    if spread == 0:
        return 1.0
    found = reweighted(deviations, tilt)
    return 2 * found.divergence / spread if found.ess >= ENOUGH else 1.0


def sharpest(deviations: Float64[Tensor, " m"]) -> float:
    """Return the largest tilt at which ``ENOUGH`` samples count: effective samples fall as tilts grow."""
    low, high = 0.0, SHARPEST / float(deviations.std())
    if reweighted(deviations, high).ess >= ENOUGH:  # many samples share the highest reward
        return high
    return _bisect(lambda tilt: reweighted(deviations, tilt).ess < ENOUGH, low, high)


def tilt_for_gain(deviations: Float64[Tensor, " m"], gain: float) -> float:
    """Return the smallest tilt that raises the mean by ``gain``, or the sharpest that can be judged."""
    top = sharpest(deviations)
    if reweighted(deviations, top).gain <= gain:
        return top
    return _bisect(lambda tilt: reweighted(deviations, tilt).gain >= gain, 0.0, top)


def _bisect(is_beyond: Callable[[float], bool], low: float, high: float) -> float:
    """The point between ``low`` and ``high`` from which on it is beyond."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return (low + high) / 2
