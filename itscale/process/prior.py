"""What a run starts from where that is not a normal: the heavy-tailed noise of PFGM++."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.noise import Address, Noise, Purpose
from itscale.types import State, expand_over_event

_ATTEMPTS = 24  # each is accepted with probability 0.95 and more: all fail with probability below 1e-31


@dataclass(frozen=True)
class StudentT:
    """Multivariate Student t noise with ``augmented`` degrees of freedom: ``z sqrt(D / chi^2_D)``.

    The perturbation of PFGM++ with D augmented dimensions and ``r = kappa sqrt(D)``. Its ODE is that of
    diffusion models, so solvers and grids are the same and the model is asked at the same ``kappa``; only the
    noise differs, by one factor per sample. D to infinity is diffusion, D = 1 is PFGM.

    No SDE has these marginals, and no noising step leads from one noise level to a higher one (the law is not
    closed under convolution): stochastic solvers, churn and Restart are refused.

    Reference:
        Xu et al. (2023), "PFGM++: Unlocking the Potential of Physics-Inspired Generative Models",
        arXiv:2302.04265, its perturbation kernel; drawn there as a beta variate, which is the same law.
    """

    augmented: float

    def __post_init__(self) -> None:
        if not 0 < self.augmented < math.inf:
            raise ConfigError(f"augmented must be positive and finite, got {self.augmented!r}")

    def spread(self, unit: State, noise: Noise, at: Address) -> State:
        """Turn standard normals (rows, *event) into Student t ones: one factor per row."""
        chi_square = 2 * gamma(noise, Purpose.PRIOR, at, self.augmented / 2)
        return unit * expand_over_event((self.augmented / chi_square).sqrt(), unit)

    def perturb(self, x: State, kappa: float, noise: Noise, at: Address) -> State:
        """Draw noisy data ``x + kappa t`` (in units of the data): what a model is trained on."""
        unit = noise.normal(Purpose.INITIAL, at, tuple(x.shape[1:]), x.dtype)
        return x + kappa * self.spread(unit, noise, at)


def gamma(noise: Noise, purpose: int, at: Address, shape: float) -> Float64[Tensor, " rows"]:
    """Draw one gamma variate of unit scale per row, addressed.

    Reference:
        Marsaglia and Tsang (2000), "A simple method for generating gamma variables", ACM TOMS 26(3).
    """
    raised = shape + 1 if shape < 1 else shape  # and lowered again by a uniform
    d = raised - 1 / 3
    u = noise.uniform(purpose, at, 2 * _ATTEMPTS + 1).clamp(min=2.0**-54)
    normal, judge, last = torch.special.ndtri(u[:, :_ATTEMPTS]), u[:, _ATTEMPTS:-1], u[:, -1]
    v = (1 + normal / math.sqrt(9 * d)) ** 3
    log_v = v.clamp(min=1e-300).log()
    accepted = (v > 0) & (judge.log() < normal**2 / 2 + d - d * v + d * log_v)
    first = accepted.int().argmax(dim=1, keepdim=True)
    value = d * v.gather(1, first)[:, 0]
    return value * last ** (1 / shape) if shape < 1 else value
