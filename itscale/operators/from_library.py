"""Operators of deepinv: tomography, multi-coil resonance, ptychography and others that are not ours to
write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError, missing_extra
from itscale.operators.base import Batch, LinearOperator, Measured, Operator
from itscale.operators.linear import check_rows


@dataclass(frozen=True, eq=False)
class LibraryLinear(LinearOperator):
    """A linear physics: its own adjoint; solves by conjugate gradients."""

    physics: Any
    shape: tuple[int, ...]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def __call__(self, x: Batch) -> Measured:
        return _as(self.physics, x).A(x)

    def adjoint(self, y: Measured) -> Batch:
        return _as(self.physics, y).A_adjoint(y)


@dataclass(frozen=True, eq=False)
class LibraryOperator(Operator):
    """A physics that is not linear."""

    physics: Any
    shape: tuple[int, ...]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shape

    def __call__(self, x: Batch) -> Measured:
        return _as(self.physics, x).A(x)


def from_deepinv(physics: Any, event_shape: Sequence[int]) -> LibraryLinear | LibraryOperator:
    """Use a physics of deepinv as an operator; its noise model is left out, since a likelihood states the
    noise.

    Args:
        physics: an instance of ``deepinv.physics.Physics``.
        event_shape: shape of one decoded sample, without the batch.

    Raises:
        MissingExtra: without deepinv.
        ConfigError: for another object, or one that does not measure samples of that shape.
    """
    try:
        from deepinv.physics import LinearPhysics, Physics
    except ImportError as error:
        raise missing_extra("deepinv", "inverse", "operators.from_deepinv") from error
    if not isinstance(physics, Physics):
        raise ConfigError(f"physics must be one of deepinv.physics, got {type(physics).__name__}")
    shape = tuple(event_shape)
    kind = LibraryLinear if isinstance(physics, LinearPhysics) else LibraryOperator
    made = kind(physics, shape)
    check_rows(lambda x: made(x.float()), shape)
    return made


def _as(physics: Any, like: Tensor) -> Any:
    """The physics with its buffers in the dtype and on the device of some states."""
    real = like.real if torch.is_complex(like) else like
    return physics.to(device=real.device, dtype=real.dtype)
