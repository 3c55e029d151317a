"""The variance of an evidence, predicted from the covariance of rewards along unguided trajectories."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

LARGEST = 700.0  # exponents above overflow


def slopes(covariance: Float64[Tensor, "steps steps"]) -> list[float]:
    """Return the regression of the final reward on the reward at every level, 0 where it does not vary."""
    own, cross = covariance.diagonal(), covariance[:, -1]
    return torch.where(own > 0, cross / own.clamp_min(1e-300), 0.0).clamp_min(0.0).tolist()


def relative_variance(
    covariance: Float64[Tensor, "steps steps"],
    tilt: float,
    exponents: Sequence[float],
    sizes: Sequence[int],
    ess_threshold: float,
    scored: Sequence[bool] | None = None,
) -> float:
    """Predict ``Var(Z) / Z^2`` of the evidence of SMC on the values ``a_k tilt r(D_k)``.

    Between two resamplings, at levels j and k, particles gather the weight ``exp(v_k - v_j)``. If rewards are
    jointly Gaussian and ``E[r_T | x_k] = b_k r_k``, the law that matters at k differs from that of the
    particles before weighting by

        chi^2 = exp(tilt^2 Var(b_k r_k - a_j r_j)) - 1,

    and ``E[Z^2] / E[Z]^2`` is the product of ``1 + chi^2 / N_k``: exact if values are conditional means
    (``a = b``: the factors are independent then), to first order in 1 / N otherwise. With ``a = b`` and
    resampling at every level, chi^2 is ``exp(tau^2 (rho_k^2 - rho_{k-1}^2)) - 1``, tau = tilt sd(r).
    Over-confident values (``a > b``: plain SMC where early rewards mislead) add
    ``tilt^2 Var(r_j) (a_j - b_j)^2`` to the exponent. Resampling is predicted where the number of particles
    changes, or where ``exp(-tilt^2 Var(a_k r_k - a_j r_j))``, the expected share of effective particles,
    falls below the threshold. Pushes of guided moves, which lower the variance, are left out.

    Args:
        covariance: of the rewards of denoised samples between levels, the last of which is the final one.
        tilt: exponent on the reward.
        exponents: a_k of every level; 1 for plain SMC, and at the last level.
        sizes: numbers of particles at every level.
        ess_threshold: share of effective particles below which they are resampled.
        scored: levels that are scored; None for all. The last one always is.

    Reference:
        Del Moral (2004), "Feynman-Kac Formulae", section 9.4 (asymptotic variance of normalising constants).
    """
    last, slope = len(sizes) - 1, slopes(covariance)
    spread = torch.zeros(()) if tilt == 0 else covariance * tilt**2

    def distance(k: int, a: float, j: int, b: float) -> float:
        """tilt^2 Var(a r_k - b r_j)."""
        if tilt == 0:
            return 0.0
        kk, jj, kj = float(spread[k, k]), float(spread[j, j]), float(spread[k, j])
        return max(0.0, a * a * kk + b * b * jj - 2 * a * b * kj)

    total = 0.0
    absorbed = (0, 0.0)  # level and exponent of the value up to which weights were absorbed
    held = (0, 0.0)  # of the value that particles hold
    for k in range(len(sizes)):
        if k == last or scored is None or scored[k]:
            held = (k, float(exponents[k]))
        share = math.exp(-distance(*held, *absorbed))
        if k == last or share < ess_threshold or sizes[k + 1] != sizes[k]:
            gap = min(LARGEST, distance(k, 1.0 if k == last else slope[k], *absorbed))
            total += math.log1p(math.expm1(gap) / sizes[k])
            absorbed = held
    return math.expm1(min(LARGEST, total))
