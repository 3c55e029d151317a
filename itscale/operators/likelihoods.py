"""Log-likelihoods of a measurement as rewards: with tilt 1 the tilted law is the posterior.

Noise is in the units of the operator's output. Each has a Gaussian stand-in, for methods that need one;
whatever such a method does, weights bring in the likelihood itself at the end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.operators.base import Operator
from itscale.operators.nonlinear import Quantise
from itscale.scoring import RewardSpec, reward
from itscale.scoring.protocol import Reward


class StandIn(NamedTuple):
    """A Gaussian in place of the noise: the measurement to compare with, and the standard deviation."""

    measurement: Tensor
    std: float


class Likelihood(ABC):
    """``log p(y | x)`` of samples, constants included, in float64; an operator, a measurement and a noise."""

    operator: Operator
    measurement: Tensor

    @abstractmethod
    def log_prob(self, predicted: Tensor) -> Float64[Tensor, " rows"]:
        """``log p(y | A x)`` from noiseless measurements (rows, *measurement_shape)."""

    @property
    @abstractmethod
    def stand_in(self) -> StandIn: ...

    @property
    def spec(self) -> RewardSpec:
        name = type(self).__name__.removesuffix("Likelihood").lower()
        return RewardSpec(
            name=f"{name}-likelihood",
            differentiable=self.operator.is_differentiable,
            doc=f"log-likelihood of a measurement with {name} noise",
        )

    def __call__(self, samples: Tensor) -> Float64[Tensor, " rows"]:
        expected = tuple(self.operator.event_shape)
        if tuple(samples.shape[1:]) != expected:
            raise ConfigError(
                f"the operator {type(self.operator).__name__} measures samples {expected}, and the "
                f"model makes "
                f"{tuple(samples.shape[1:])}; give the operator the shape of decoded samples"
            )
        return self.log_prob(self.operator(samples))

    def _check(self) -> None:
        if not isinstance(self.operator, Operator):
            raise ConfigError(
                f"operator must be one of itscale.operators, got {self.operator!r}; wrap a function in "
                "operators.Function or operators.LinearFunction"
            )
        if not isinstance(self.measurement, Tensor):
            raise ConfigError(f"measurement must be a tensor, got {type(self.measurement).__name__}")
        shape, expected = tuple(self.measurement.shape), self.operator.measurement_shape
        if shape != tuple(expected):
            raise ConfigError(
                f"measurement has shape {shape}, and {type(self.operator).__name__} measures "
                f"{tuple(expected)} of one sample; give one measurement, without a batch axis"
            )
        if not bool(self.measurement.isfinite().all()):
            raise ConfigError("measurement holds NaN or infinity; mask such values out")


@reward
@dataclass(frozen=True, eq=False)
class GaussianLikelihood(Likelihood):
    """``y = A(x) + sigma n`` with standard normal n.

    Attributes:
        operator: A.
        measurement: y, one measurement without a batch axis.
        sigma: standard deviation of the noise, > 0.
    """

    operator: Operator
    measurement: Tensor
    sigma: float

    def __post_init__(self) -> None:
        self._check()
        _check_scale("sigma", self.sigma)

    @property
    def stand_in(self) -> StandIn:
        return StandIn(self.measurement, self.sigma)

    def log_prob(self, predicted: Tensor) -> Float64[Tensor, " rows"]:
        e = _gap(self.measurement, predicted)
        constant = e.shape[1] * (math.log(self.sigma) + math.log(2 * math.pi) / 2)
        return -e.square().sum(1) / (2 * self.sigma**2) - constant


@reward
@dataclass(frozen=True, eq=False)
class PoissonLikelihood(Likelihood):
    """``y ~ Poisson(gain A(x))``, counts.

    Attributes:
        operator: A, of values >= 0.
        measurement: counts.
        gain: expected counts at a value of 1, > 0.
        floor: intensities ``A(x)`` below this count as this one; the log-likelihood is flat there.
    """

    operator: Operator
    measurement: Tensor
    gain: float
    floor: float = 1e-3

    def __post_init__(self) -> None:
        self._check()
        _check_scale("gain", self.gain)
        _check_scale("floor", self.floor)
        if bool((self.measurement < 0).any()) or bool((self.measurement != self.measurement.round()).any()):
            raise ConfigError("measurement must hold counts: whole numbers >= 0")

    @property
    def stand_in(self) -> StandIn:
        """Variance of a count is its mean; one number for all."""
        variance = self.measurement.double().clamp_min(1.0).mean()
        return StandIn(self.measurement / self.gain, float(variance.sqrt()) / self.gain)

    def log_prob(self, predicted: Tensor) -> Float64[Tensor, " rows"]:
        rate = self.gain * predicted.flatten(1).double().clamp_min(self.floor)
        y = self.measurement.to(predicted.device).double().flatten()
        return (y * rate.log() - rate - torch.lgamma(y + 1)).sum(1)


@reward
@dataclass(frozen=True, eq=False)
class LaplaceLikelihood(Likelihood):
    """``y = A(x) + scale n``, n with density ``exp(-|n|) / 2``: noise with outliers.

    Attributes:
        scale: > 0; the standard deviation is sqrt(2) times it.
    """

    operator: Operator
    measurement: Tensor
    scale: float

    def __post_init__(self) -> None:
        self._check()
        _check_scale("scale", self.scale)

    @property
    def stand_in(self) -> StandIn:
        return StandIn(self.measurement, math.sqrt(2) * self.scale)

    def log_prob(self, predicted: Tensor) -> Float64[Tensor, " rows"]:
        e = _gap(self.measurement, predicted)
        return -e.abs().sum(1) / self.scale - e.shape[1] * math.log(2 * self.scale)


@reward
@dataclass(frozen=True, eq=False)
class IntervalLikelihood(Likelihood):
    """``y = Q(A(x) + sigma n)``: the probability of the cells that the noisy values were rounded to.

    It is smooth although Q is not. The outermost cells reach to infinity, as values beyond are clipped.

    Attributes:
        operator: A, before quantisation.
        measurement: middles of cells, as ``quantiser`` returns them.
        quantiser: Q.
        sigma: standard deviation of the noise before rounding, > 0.
    """

    operator: Operator
    measurement: Tensor
    quantiser: Quantise
    sigma: float

    def __post_init__(self) -> None:
        self._check()
        _check_scale("sigma", self.sigma)
        if (
            float((self.quantiser(self.measurement) - self.measurement).abs().max())
            > 1e-4 * self.quantiser.width
        ):
            raise ConfigError(
                "measurement holds values that the quantiser does not return; quantise it first"
            )

    @property
    def stand_in(self) -> StandIn:
        return StandIn(self.measurement, math.sqrt(self.sigma**2 + self.quantiser.width**2 / 12))

    def log_prob(self, predicted: Tensor) -> Float64[Tensor, " rows"]:
        q = self.quantiser
        middle = self.measurement.to(predicted.device).double().flatten()
        lower = torch.where(middle < q.low + q.width, -torch.inf, middle - q.width / 2)
        upper = torch.where(middle > q.high - q.width, torch.inf, middle + q.width / 2)
        mean = predicted.flatten(1).double()
        a, b = (lower - mean) / self.sigma, (upper - mean) / self.sigma
        is_right = a > 0  # there the difference of distribution functions would lose its digits
        a, b = torch.where(is_right, -b, a), torch.where(is_right, -a, b)
        top, bottom = torch.special.log_ndtr(b), torch.special.log_ndtr(a.clamp_min(-1e6))
        return (top + torch.log1p(-torch.exp(bottom - top).clamp_max(1 - 1e-16))).sum(1)


def likelihood_of(given: Any) -> Likelihood | None:
    """The likelihood that a reward is, by itself; None for any other reward."""
    if isinstance(given, Likelihood):
        return given
    leaf = getattr(given, "leaf", None) if isinstance(given, Reward) else None
    function = getattr(leaf, "function", None)
    return function if isinstance(function, Likelihood) else None


def _gap(y: Tensor, predicted: Tensor) -> Float64[Tensor, "rows m"]:
    return (y.to(predicted.device).double() - predicted.double()).flatten(1)


def _check_scale(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(
            f"{name} must be a finite number > 0, got {value!r}: a measurement without noise has no density. "
            "State the noise that there is; DDNM and DDRM take a measurement as exact with noiseless=True"
        )
