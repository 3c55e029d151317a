"""The normaliser of a linear tilt by integrating the mean of its reward over tilts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from itscale.models.base import Model
from itscale.models.linear_tilt import LinearTilt
from itscale.sampling.entry import sample


class LogNormalizer(NamedTuple):
    """An estimate of log Z, and its standard error from the samples alone."""

    value: float
    standard_error: float


def tilt_log_z(
    model: Model, b: Tensor, *, reach: float = 3.0, nodes: int = 6, n: int = 256, **settings: Any
) -> LogNormalizer:
    """Estimate ``log E exp(b . x)`` over a model's states: the integral of ``b . E_sb[x]`` over s in [0, 1].

    Every node samples ``LinearTilt(model, s b)`` without weights, so it works where the tilt is too sharp
    for importance sampling, and it shares nothing with a particle method whose evidence it may check.

    Args:
        reach: see ``models.LinearTilt``; its error enters the result.
        nodes: Gauss-Legendre nodes; the integrand is a smooth and rising function.
        n: samples a node.
        settings: as for ``sample``, such as ``steps``, ``condition``, ``seed``.

    Cost: ``nodes n`` trajectories, and no reward call.
    """
    positions, weights = np.polynomial.legendre.leggauss(nodes)
    total = variance = 0.0
    for node, weight in zip((positions + 1) / 2, weights / 2, strict=True):
        drawn = sample(LinearTilt(model, float(node) * b, reach), n=n, **settings)
        along = (drawn.states.flatten(2).double() @ b.flatten().double().cpu()).flatten()
        total += weight * float(along.mean())
        variance += weight**2 * float(along.var()) / len(along)
    return LogNormalizer(total, math.sqrt(variance))
