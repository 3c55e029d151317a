"""What the bundled flows of images have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from itscale.interpolants import Interpolant, Linear
from itscale.models.algebra import Composable
from itscale.models.base import Given
from itscale.models.guidance import GuidanceLike
from itscale.models.likelihood import log_prob
from itscale.types import PerRow, State, Time

Self = TypeVar("Self", bound="ImageFlow")


@dataclass(frozen=True, eq=False)
class ImageFlow(Composable, ABC):
    """Conditional flow on images in [-1, 1] along the linear path; ``encode`` is left to the subclass.

    Args:
        network: velocity of ``(x, t, condition)``.
    """

    network: nn.Module

    predicts: Literal["velocity"] = "velocity"
    event_shape: tuple[int, ...] = ()
    modality: str = "image"
    rows_per_look: int = 1
    interpolant: Interpolant = field(default_factory=Linear)

    @abstractmethod
    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return one encoded condition per group, ``(g, ...)``; ``None`` becomes that of any image."""

    def predict(self, x: State, t: Time, condition: Tensor | None) -> State:
        """Return the velocity; without ``condition`` every row is unconditional."""
        dtype = next(self.network.parameters()).dtype
        if condition is None:
            condition = self.encode([None])
            condition = condition.expand(len(x), *condition.shape[1:])
        condition = condition.to(x.device, dtype if condition.is_floating_point() else None)
        return self.network(x.to(dtype), t.to(x.device, dtype), condition).to(x.dtype)

    @property
    def affine(self) -> tuple[float, float]:
        """Scale and shift of ``decode``, up to its clamp."""
        return (0.5, 0.5)

    def decode(self, x: State) -> Tensor:
        """Return images in [0, 1]."""
        return ((x + 1) / 2).clamp(0, 1)

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        return Given(self, condition, guidance)

    def log_prob(self, x: State, condition: Any = None, **options: Any) -> PerRow:
        """Log-density of states by the ODE; options, cost and error as in ``models.log_prob``."""
        return log_prob(self, x, condition, **options).values

    def to(self: Self, device: torch.device | str) -> Self:
        device = torch.device(device)
        if any(p.device != device for p in self.network.parameters()):  # a walk through all modules else
            self.network.to(device)
        return self
