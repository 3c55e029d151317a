"""What a measurement operator is, and what a linear one can do beside being called.

A callable is enough for methods that follow gradients; an adjoint and solves with the Gram matrix serve those
that project, a singular value decomposition those that work coordinate by coordinate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError

Batch = Float[Tensor, "rows *event"]
Measured = Float[Tensor, "rows *measurement"]

CONJUGATE_GRADIENT_STEPS = 100
TINY = 1e-3
"""Singular values below this share of the largest count as not measured: their noise would be enormous."""


class Operator(ABC):
    """``A``: samples ``(rows, *event_shape)`` to noiseless measurements ``(rows, *measurement_shape)``.

    Rows do not depend on one another. Results have the dtype and device of the samples.

    Attributes:
        event_shape: shape of one sample.
        is_differentiable: whether autograd goes through.
    """

    is_differentiable: bool = True

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]: ...

    @abstractmethod
    def __call__(self, x: Batch) -> Measured: ...

    @cached_property
    def measurement_shape(self) -> tuple[int, ...]:
        return tuple(self(torch.zeros(1, *self.event_shape)).shape[1:])

    @property
    def size(self) -> int:
        """How many numbers a measurement has."""
        return math.prod(self.measurement_shape)

    @cached_property
    def gain(self) -> float:
        """Root mean square of the norms of the rows of the Jacobian, at a fixed random point.

        How much a standard deviation of the sample's coordinates shows in a measurement; 1 for an operator
        without a gradient.
        """
        if not self.is_differentiable:
            return 1.0
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(8, *self.event_shape, generator=generator, dtype=torch.float64)
        v = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        step = 1e-4
        with torch.no_grad():
            change = (self(x + step * v) - self(x - step * v)) / (2 * step)
        return float(change.square().mean().sqrt())


class LinearOperator(Operator):
    """A linear operator; a subclass may replace what is computed here from its call alone."""

    def adjoint(self, y: Measured) -> Batch:
        """``A^T y``, by the vector-Jacobian product of the call."""
        with torch.enable_grad():
            x = y.new_zeros(len(y), *self.event_shape).requires_grad_()
            return torch.autograd.grad(self(x), x, y)[0]

    def gram_solve(self, y: Measured, noise: float | Tensor, prior: float | Tensor) -> Measured:
        """``(noise I + prior A A^T)^-1 y``, by conjugate gradients row by row.

        Args:
            noise, prior: variances, one for all rows or ``(rows,)``.
        """
        noise, prior = (_per_row(v, y) for v in (noise, prior))

        def apply(v: Tensor) -> Tensor:
            return noise * v + prior * self(self.adjoint(v))

        return conjugate_gradients(apply, y)

    def pinv(self, y: Measured) -> Batch:
        """``A^+ y``, the least-norm sample among those that fit best; iterative unless there is an SVD."""
        return self.adjoint(self.gram_solve(y, 1e-10, 1.0))

    @cached_property
    def gain(self) -> float:
        """Root mean square of the norms of the rows of ``A``, by a probe of 64 normals."""
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(64, *self.event_shape, generator=generator, dtype=torch.float64)
        return float(self(v).square().mean().sqrt())


class SpectralOperator(LinearOperator):
    """``A = U diag(a) V^T`` with maps for U and V: coordinate i of ``V^T x`` is measured with factor ``a_i``.

    ``to_spectral`` is orthogonal, its first ``size`` coordinates are those measured.
    """

    @property
    @abstractmethod
    def singular_values(self) -> Float[Tensor, " size"]:
        """``a``, float64, in the order of the spectral coordinates."""

    @abstractmethod
    def to_spectral(self, x: Batch) -> Float[Tensor, "rows d"]:
        """``V^T x``."""

    @abstractmethod
    def from_spectral(self, v: Float[Tensor, "rows d"]) -> Batch:
        """``V v``."""

    @abstractmethod
    def measurement_to_spectral(self, y: Measured) -> Float[Tensor, "rows size"]:
        """``U^T y``."""

    @abstractmethod
    def measurement_from_spectral(self, u: Float[Tensor, "rows size"]) -> Measured:
        """``U u``."""

    @cached_property
    def is_measured(self) -> Tensor:
        """Which of the first coordinates carry anything, (size,) bool."""
        a = self.singular_values
        return a > TINY * a.max()

    def __call__(self, x: Batch) -> Measured:
        return self.measurement_from_spectral(self._factors(x) * self.to_spectral(x)[:, : self.size])

    def adjoint(self, y: Measured) -> Batch:
        return self._lifted(self._factors(y) * self.measurement_to_spectral(y))

    def pinv(self, y: Measured) -> Batch:
        a = self._factors(y)
        inverse = torch.where(self.is_measured.to(y.device), 1 / a, 0.0)
        return self._lifted(inverse * self.measurement_to_spectral(y))

    def gram_solve(self, y: Measured, noise: float | Tensor, prior: float | Tensor) -> Measured:
        noise, prior = (_column(v, y) for v in (noise, prior))
        u = self.measurement_to_spectral(y) / (noise + prior * self._factors(y) ** 2)
        return self.measurement_from_spectral(u)

    @cached_property
    def gain(self) -> float:
        return float(self.singular_values.square().mean().sqrt())

    def _factors(self, like: Tensor) -> Tensor:
        return self.singular_values.to(like)

    def _lifted(self, u: Tensor) -> Batch:
        """From measured coordinates to samples, the others 0."""
        d = math.prod(self.event_shape)
        return self.from_spectral(torch.cat([u, u.new_zeros(len(u), d - self.size)], dim=1))


@dataclass(frozen=True, eq=False)
class Composed(Operator):
    """An operator after a differentiable map: a decoder, so that a latent model can be asked about pixels.

    Attributes:
        outer: the operator.
        inner: what comes before it, ``(rows, *shape)`` to ``(rows, *outer.event_shape)``.
        shape: shape of one sample of the map.
    """

    outer: Operator
    inner: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not callable(self.inner):
            raise ConfigError(f"inner must be a map of samples, got {self.inner!r}")
        made = tuple(self.inner(torch.zeros(1, *self.shape)).shape[1:])
        if made != tuple(self.outer.event_shape):
            raise ConfigError(
                f"inner maps {self.shape} to {made}, and the operator takes {tuple(self.outer.event_shape)}"
            )
        object.__setattr__(self, "is_differentiable", self.outer.is_differentiable)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def __call__(self, x: Batch) -> Measured:
        return self.outer(self.inner(x))

    @cached_property
    def gain(self) -> float:
        return self.outer.gain


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], y: Tensor, steps: int = CONJUGATE_GRADIENT_STEPS
) -> Tensor:
    """Solve ``apply(x) = y`` row by row for a symmetric positive definite map, to rounding or ``steps``.

    Reference:
        Hestenes and Stiefel (1952), "Methods of Conjugate Gradients for Solving Linear Systems".
    """
    x, r = torch.zeros_like(y), y.clone()
    p, square = r.clone(), _dot(r, r)
    enough = torch.finfo(y.dtype).eps ** 2 * square
    for _ in range(steps):
        if bool((square <= enough).all()):
            break
        q = apply(p)
        curvature = _dot(p, q)
        step = torch.where(square > enough, square / curvature.clamp_min(1e-300), 0.0)
        x, r = x + step * p, r - step * q
        after = _dot(r, r)
        p = r + torch.where(square > enough, after / square.clamp_min(1e-300), 0.0) * p
        square = after
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1).reshape(-1, *(1,) * (a.ndim - 1))


def _per_row(value: float | Tensor, like: Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float64).to(like)
    return value if value.ndim == 0 else value.reshape(-1, *(1,) * (like.ndim - 1))


def _column(value: float | Tensor, like: Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float64).to(like)
    return value if value.ndim == 0 else value.reshape(-1, 1)
