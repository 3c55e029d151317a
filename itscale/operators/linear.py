"""Linear operators without a quick decomposition: their adjoint is the vector-Jacobian product."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.operators.base import Batch, LinearOperator, Measured


@dataclass(frozen=True, eq=False)
class Bicubic(LinearOperator):
    """Super-resolution: antialiased bicubic reduction of images by a factor.

    Attributes:
        shape: (c, h, w).
        factor: of the sides, which are multiples of it.
    """

    shape: tuple[int, int, int]
    factor: int

    def __post_init__(self) -> None:
        if (
            self.factor < 2
            or len(self.shape) != 3
            or self.shape[1] % self.factor
            or self.shape[2] % self.factor
        ):
            raise ConfigError(f"factor must be >= 2 and divide the sides of {self.shape}, got {self.factor}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    def __call__(self, x: Batch) -> Measured:
        size = (self.shape[1] // self.factor, self.shape[2] // self.factor)
        return torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)


@dataclass(frozen=True, eq=False)
class Projection(LinearOperator):
    """Parallel-beam projections: images turned by each angle and summed along columns, divided by the height.

    Attributes:
        shape: (c, h, w).
        angles: how many, even over half a turn.
    """

    shape: tuple[int, int, int]
    angles: int

    def __post_init__(self) -> None:
        if self.angles < 1:
            raise ConfigError(f"angles must be at least 1, got {self.angles}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    def __call__(self, x: Batch) -> Measured:
        turned = []
        for k in range(self.angles):
            angle = math.pi * k / self.angles
            c, s = math.cos(angle), math.sin(angle)
            matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).to(x).expand(len(x), 2, 3)
            grid = torch.nn.functional.affine_grid(matrix, list(x.shape), align_corners=False)
            image = torch.nn.functional.grid_sample(x, grid, align_corners=False)
            turned.append(image.mean(dim=2))
        return torch.stack(turned, dim=2)


@dataclass(frozen=True, eq=False)
class LinearFunction(LinearOperator):
    """A linear function of your own; its adjoint comes from autograd, its solves from conjugate gradients.

    Attributes:
        function: ``(rows, *shape)`` to measurements, linear and row by row; checked when it is made.
        shape: shape of one sample.
    """

    function: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_rows(self.function, self.shape)
        a, b = _probes(self.shape)
        f = self.function
        together, apart = f(2 * a - 3 * b), 2 * f(a) - 3 * f(b)
        scale = float(apart.abs().max()) + 1e-300
        if float((together - apart).abs().max()) > 1e-6 * scale:
            raise ConfigError(
                "the function is not linear: f(2a - 3b) differs from 2 f(a) - 3 f(b); use Function"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    def __call__(self, x: Batch) -> Measured:
        return self.function(x)


def check_rows(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless a function maps each row by itself."""
    if not callable(function):
        raise ConfigError(f"an operator must be a function of samples, got {function!r}")
    rows, _ = _probes(shape)
    try:
        made = function(rows)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"the function fails on samples (2, {', '.join(map(str, shape))}): {error}"
        ) from error
    if not isinstance(made, Tensor) or len(made) != 2:
        raise ConfigError("the function must return a tensor with one row per sample")
    alone = torch.cat([function(rows[:1]), function(rows[1:])])
    if float((made - alone).abs().max()) > 1e-6 * (float(made.abs().max()) + 1e-300):
        raise ConfigError("the function mixes samples of a batch: a row's measurement depends on other rows")


def _probes(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return a, b
