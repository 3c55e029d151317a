"""Several operators on one sample, their measurements after one another."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.operators.base import Batch, LinearOperator, Measured, Operator
from itscale.operators.linear import LinearFunction
from itscale.operators.nonlinear import Function
from itscale.operators.spectral import Dense


@dataclass(frozen=True, eq=False)
class Stacked(Operator):
    """``x -> (A_1 x, A_2 x, ...)``, flat.

    Attributes:
        parts: operators on samples of one shape.
    """

    parts: tuple[Operator, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError("nothing to stack: give at least one operator")
        shapes = {tuple(part.event_shape) for part in self.parts}
        if len(shapes) > 1:
            raise ConfigError(f"operators to stack must measure samples of one shape, got {sorted(shapes)}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.parts[0].event_shape)

    def __call__(self, x: Batch) -> Measured:
        return torch.cat([part(x).flatten(1) for part in self.parts], dim=1)

    def simplest(self) -> Operator:
        """The same as one matrix where all parts are, as a linear operator where all are linear."""
        dense = [part.matrix for part in self.parts if isinstance(part, Dense)]
        if len(dense) == len(self.parts):
            return Dense(torch.cat(dense), self.event_shape)
        if all(isinstance(part, LinearOperator) for part in self.parts):
            return LinearFunction(self, self.event_shape)
        is_smooth = all(part.is_differentiable for part in self.parts)
        return Function(self, self.event_shape, is_differentiable=is_smooth)
