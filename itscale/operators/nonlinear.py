"""Nonlinear operators: magnitudes of a Fourier transform, clipped exposure, quantised values, functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.operators.base import Batch, Measured, Operator
from itscale.operators.linear import check_rows


@dataclass(frozen=True, eq=False)
class PhaseRetrieval(Operator):
    """``|F x|``: magnitudes of the orthonormal Fourier transform of an image padded with zeros.

    An image, its point reflection and its shifts within the padding have one measurement; so a posterior has
    several modes, and the error to a truth is the least over these (``metrics.best_of_symmetries``).

    Attributes:
        shape: (c, h, w).
        oversampling: the padded sides over the image's, >= 1.
    """

    shape: tuple[int, int, int]
    oversampling: float = 2.0

    def __post_init__(self) -> None:
        if not self.oversampling >= 1:
            raise ConfigError(f"oversampling must be >= 1, got {self.oversampling!r}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    def __call__(self, x: Batch) -> Measured:
        sides = [round(self.oversampling * n) for n in self.shape[1:]]
        return torch.fft.fft2(x, s=sides, norm="ortho").abs()


@dataclass(frozen=True, eq=False)
class Exposure(Operator):
    """High dynamic range: ``clamp(factor x, low, high)``; the gradient is 0 where a value is clipped.

    Attributes:
        shape: shape of one sample.
        factor: the exposure.
        low, high: what the sensor can say; for pixels in [0, 1] these are 0 and 1.
    """

    shape: tuple[int, ...]
    factor: float = 2.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high or not self.factor > 0:
            raise ConfigError(
                f"factor must be > 0 and low < high, got {self.factor!r}, {self.low!r}, {self.high!r}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    def __call__(self, x: Batch) -> Measured:
        return (self.factor * x).clamp(self.low, self.high)


@dataclass(frozen=True, eq=False)
class Quantise(Operator):
    """Values rounded to the middles of ``2^bits`` equal cells between low and high; has no gradient.

    With an ``IntervalLikelihood`` the probability of the cells is smooth, and gradients are there again.

    Attributes:
        shape: shape of one sample.
        bits: of each value.
    """

    shape: tuple[int, ...]
    bits: int = 2
    low: float = 0.0
    high: float = 1.0
    is_differentiable: bool = False

    def __post_init__(self) -> None:
        if self.bits < 1 or not self.low < self.high:
            raise ConfigError(f"bits must be at least 1 and low < high, got {self.bits!r}, {self.low!r}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def width(self) -> float:
        """Width of a cell."""
        return (self.high - self.low) / 2**self.bits

    def __call__(self, x: Batch) -> Measured:
        cell = ((x - self.low) / self.width).floor().clamp(0, 2**self.bits - 1)
        return self.low + (cell + 0.5) * self.width


@dataclass(frozen=True, eq=False)
class Function(Operator):
    """Any function of your own, row by row.

    Attributes:
        function: ``(rows, *shape)`` to measurements.
        shape: shape of one sample.
        is_differentiable: False for a black box: only methods without gradients then take it.
    """

    function: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    is_differentiable: bool = True

    def __post_init__(self) -> None:
        check_rows(self.function, self.shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    def __call__(self, x: Batch) -> Measured:
        return self.function(x)
