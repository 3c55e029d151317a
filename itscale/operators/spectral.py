"""Linear operators with a singular value decomposition in pixels: masks, block averages, dense matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.operators.base import Batch, Measured, SpectralOperator


@dataclass(frozen=True, eq=False)
class Mask(SpectralOperator):
    """Inpainting: the coordinates where ``observed`` is true, in their order.

    Attributes:
        observed: bool, shaped like one sample.
    """

    observed: Tensor

    def __post_init__(self) -> None:
        if self.observed.dtype != torch.bool:
            raise ConfigError(f"observed must hold truth values, got {self.observed.dtype}; compare with > 0")
        if not bool(self.observed.any()):
            raise ConfigError("observed is false everywhere: nothing is measured")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.observed.shape)

    @property
    def singular_values(self) -> Tensor:
        return torch.ones(int(self.observed.sum()), dtype=torch.float64)

    @cached_property
    def measurement_shape(self) -> tuple[int, ...]:
        return (len(self.singular_values),)

    @cached_property
    def order(self) -> Tensor:
        """Coordinates, those observed first."""
        flat = self.observed.flatten()
        return torch.cat([flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]])

    def to_spectral(self, x: Batch) -> Tensor:
        return x.flatten(1)[:, self.order.to(x.device)]

    def from_spectral(self, v: Tensor) -> Batch:
        return v[:, self.order.argsort().to(v.device)].reshape(-1, *self.event_shape)

    def measurement_to_spectral(self, y: Measured) -> Tensor:
        return y

    def measurement_from_spectral(self, u: Tensor) -> Measured:
        return u


@dataclass(frozen=True, eq=False)
class BlockAverage(SpectralOperator):
    """Super-resolution: means of blocks of ``factor x factor`` pixels, so every singular value is 1 / factor.

    Attributes:
        shape: (c, h, w), h and w multiples of the factor.
        factor: of the sides.
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
            raise ConfigError(
                f"factor must be >= 2 and divide the sides of images (c, h, w), got {self.factor} "
                f"for {self.shape}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @cached_property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.shape[0], self.shape[1] // self.factor, self.shape[2] // self.factor)

    @property
    def singular_values(self) -> Tensor:
        return torch.full((math.prod(self.measurement_shape),), 1 / self.factor, dtype=torch.float64)

    @cached_property
    def basis(self) -> Tensor:
        """Orthonormal, (f^2, f^2), its first row constant: the cosine transform of a block."""
        n = self.factor**2
        k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
        rows = (math.pi * k * (2 * i + 1) / (2 * n)).cos() * math.sqrt(2 / n)
        rows[0] = 1 / math.sqrt(n)
        return rows

    def to_spectral(self, x: Batch) -> Tensor:
        c, h, w = self.measurement_shape
        f = self.factor
        blocks = x.reshape(-1, c, h, f, w, f).permute(0, 1, 2, 4, 3, 5).reshape(len(x), -1, f * f)
        return (blocks @ self.basis.to(x).T).transpose(1, 2).reshape(len(x), -1)

    def from_spectral(self, v: Tensor) -> Batch:
        c, h, w = self.measurement_shape
        f = self.factor
        blocks = v.reshape(len(v), f * f, -1).transpose(1, 2) @ self.basis.to(v)
        blocks = blocks.reshape(-1, c, h, w, f, f).permute(0, 1, 2, 4, 3, 5)
        return blocks.reshape(-1, *self.event_shape)

    def measurement_to_spectral(self, y: Measured) -> Tensor:
        return y.flatten(1)

    def measurement_from_spectral(self, u: Tensor) -> Measured:
        return u.reshape(-1, *self.measurement_shape)


@dataclass(frozen=True, eq=False)
class Dense(SpectralOperator):
    """A matrix on flattened samples, decomposed once; for at most a few thousand coordinates.

    Attributes:
        matrix: (m, d).
        shape: shape of one sample, of d numbers.
    """

    matrix: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.shape[1] != math.prod(self.shape):
            raise ConfigError(
                f"matrix must have {math.prod(self.shape)} columns for samples {self.shape}, "
                f"got {tuple(self.matrix.shape)}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @cached_property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.matrix.shape[0],)

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        u, a, vh = torch.linalg.svd(self.matrix.double(), full_matrices=True)
        missing = u.shape[0] - len(a)  # more measurements than coordinates: the others see nothing
        if missing > 0:
            raise ConfigError(
                f"matrix has more rows ({u.shape[0]}) than columns ({vh.shape[0]}); measure less, or "
                f"reduce it"
            )
        return u, a, vh

    @property
    def singular_values(self) -> Tensor:
        return self._svd[1]

    def __call__(self, x: Batch) -> Measured:
        return x.flatten(1) @ self.matrix.to(x).T

    def to_spectral(self, x: Batch) -> Tensor:
        return x.flatten(1) @ self._svd[2].to(x).T

    def from_spectral(self, v: Tensor) -> Batch:
        return (v @ self._svd[2].to(v)).reshape(-1, *self.event_shape)

    def measurement_to_spectral(self, y: Measured) -> Tensor:
        return y @ self._svd[0].to(y)

    def measurement_from_spectral(self, u: Tensor) -> Measured:
        return u @ self._svd[0].to(u).T
