"""States that a sample may have come from: noised, hidden or replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.interpolants import Interpolant
from itscale.models.token_space import TokenSpace
from itscale.types import State, expand_over_event
from itscale.values.learned import unit_size


class Noising(Protocol):
    """How states of a model arise from its data."""

    def __call__(
        self, data: State, share: Float64[Tensor, " rows"], generator: torch.Generator
    ) -> tuple[State, Float64[Tensor, " rows"]]:
        """States at a share of the path per row, 0 noise to 1 data, and the time that a network is told."""
        ...


@dataclass(frozen=True)
class PathNoising:
    """States of unit size on a continuous path."""

    path: Interpolant

    def __call__(self, data: State, share: Tensor, generator: torch.Generator) -> tuple[State, Tensor]:
        t = self.path.t_min + share * (self.path.t_max - self.path.t_min)
        noise = torch.randn(data.shape, generator=generator)
        size = unit_size(self.path, t)
        on_data, on_noise = (
            expand_over_event(f / size, data) for f in (self.path.alpha(t), self.path.sigma(t))
        )
        return on_data * data + on_noise * noise, t


@dataclass(frozen=True)
class TokenNoising:
    """Sequences with tokens hidden, or replaced, each with the same probability."""

    space: TokenSpace

    def __call__(self, data: Tensor, share: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows, length = data.shape
        if self.space.noise == "uniform":
            is_kept = torch.rand(rows, length, generator=generator) < share[:, None]
            other = torch.randint(self.space.size, data.shape, generator=generator)
            return torch.where(is_kept, data, other), share
        visible = (share * (length + 1)).long().clamp(max=length)  # all numbers alike, as decoders pass them
        rank = torch.rand(rows, length, generator=generator).argsort(dim=1).argsort(dim=1)
        return torch.where(rank < visible[:, None], data, self.space.mask), visible.double() / length
