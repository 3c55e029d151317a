"""A measurement as a sampler sees it: in the units of the model's states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from itscale.operators.base import LinearOperator, SpectralOperator
from itscale.operators.likelihoods import GaussianLikelihood, Likelihood, likelihood_of

Decode = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Observed:
    """A likelihood, and how states become what it measures.

    Models of images hold states in [-1, 1] and show pixels ``scale x + shift`` in [0, 1], clamped. On the way
    the clamp is left out: a posterior mean may lie a little outside, and a gradient of 0 there helps nobody.
    The reward itself, which has the last word, sees clamped pixels.

    Attributes:
        likelihood: in the units of samples.
        affine: scale and shift; None where decoding is no affine map.
    """

    likelihood: Likelihood
    affine: tuple[float, float] | None

    @classmethod
    def of(cls, reward: Any, model: Any) -> Observed | None:
        """Bring a reward and a model together; None for a reward that is no likelihood."""
        likelihood = likelihood_of(reward)
        return None if likelihood is None else cls(likelihood, affine_of(model))

    @property
    def is_linear(self) -> bool:
        """Whether measurements are an affine function of states, with an adjoint."""
        return self.affine is not None and isinstance(self.likelihood.operator, LinearOperator)

    @property
    def is_spectral(self) -> bool:
        """Whether the operator also has its singular value decomposition."""
        return self.is_linear and isinstance(self.likelihood.operator, SpectralOperator)

    @property
    def is_conjugate(self) -> bool:
        """Whether data that are Gaussian stay so given the measurement."""
        return self.is_linear and isinstance(self.likelihood, GaussianLikelihood)

    @property
    def std(self) -> float:
        """Standard deviation of the noise, or of its Gaussian stand-in, in units of the measurement."""
        return self.likelihood.stand_in.std

    @property
    def scale(self) -> float:
        """Units of a sample per unit of a state."""
        return 1.0 if self.affine is None else self.affine[0]

    @property
    def gain(self) -> float:
        """How much a standard deviation of the states' coordinates shows in a measurement."""
        return self.scale * self.likelihood.operator.gain

    def samples(self, x: Tensor, decode: Decode) -> Tensor:
        """What is measured of states: decoded, without the clamp where decoding is affine."""
        return decode(x) if self.affine is None else self.affine[0] * x + self.affine[1]

    def gap(self, x: Tensor, decode: Decode) -> Tensor:
        """``y - A(x)`` of states, (rows, *measurement_shape); differentiable."""
        predicted = self.likelihood.operator(self.samples(x, decode))
        return self.likelihood.stand_in.measurement.to(predicted) - predicted

    def log_prob(self, x: Tensor, decode: Decode) -> Tensor:
        """The log-likelihood of states, (rows,) float64."""
        return self.likelihood.log_prob(self.likelihood.operator(self.samples(x, decode)))

    @property
    def linear(self) -> LinearOperator:
        operator = self.likelihood.operator
        assert isinstance(operator, LinearOperator)
        assert self.affine is not None, "a linear operator needs an affine decoder here"
        return operator

    @property
    def spectral(self) -> SpectralOperator:
        operator = self.likelihood.operator
        assert isinstance(operator, SpectralOperator)
        return operator

    def lift(self, v: Tensor) -> Tensor:
        """``A^T v`` for measurements of states."""
        return self.scale * self.linear.adjoint(v)

    def solve(self, e: Tensor, prior: float | Tensor, noise: float | None = None) -> Tensor:
        """``(noise + prior A A^T)^-1 e``, A taking states; the noise is a variance, by default std^2."""
        variance = self.std**2 if noise is None else noise
        return self.linear.gram_solve(
            e, variance, torch.as_tensor(prior, dtype=torch.float64) * self.scale**2
        )

    @cached_property
    def coordinates(self) -> Coordinates:
        """The problem coordinate by coordinate; the operator must be spectral."""
        operator = self.spectral
        assert self.affine is not None
        y = self.likelihood.stand_in.measurement.double()[None]
        shift = torch.full((1, *operator.event_shape), self.affine[1], dtype=torch.float64)
        target = operator.measurement_to_spectral(y - operator(shift))[0]
        a = self.scale * operator.singular_values
        seen = operator.is_measured
        return Coordinates(seen.nonzero()[:, 0], target[seen] / a[seen], self.std / a[seen])


@dataclass(frozen=True)
class Coordinates:
    """Which spectral coordinates of states are measured, the values there, and the noise of each.

    Attributes:
        index: (m,), positions among the spectral coordinates.
        value: (m,) float64, ``y_i / a_i``.
        tau: (m,) float64, ``sigma / a_i``.
    """

    index: Tensor
    value: Tensor
    tau: Tensor


def affine_of(model: Any) -> tuple[float, float] | None:
    """Scale and shift of a model's decoder up to a clamp; None where it is no such map, or not known."""
    while model is not None:
        if hasattr(model, "affine"):
            return model.affine
        model = getattr(model, "model", None)
    return None
