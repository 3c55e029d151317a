"""A small network that says what reward a noisy state will come to."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from itscale.errors import ConfigError

FREQUENCIES = 4


class ValueNetwork(nn.Module):
    """States of unit size, their time and condition to one number each; images are convolved, else flat.

    Args:
        event_shape: of one state; (c, h, w) is taken for an image.
        condition_size: numbers that describe a condition; 0 if there is none.
        labels: how many labels there are, where a condition is a whole number.
        width: of the widest layer.
    """

    def __init__(
        self, event_shape: tuple[int, ...], condition_size: int = 0, labels: int = 0, width: int = 96
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.settings: dict[str, Any] = {
            "event_shape": list(event_shape),
            "condition_size": condition_size,
            "labels": labels,
            "width": width,
        }
        self.label = nn.Embedding(labels, width) if labels else None
        facts = 1 + 2 * FREQUENCIES + (0 if labels else condition_size)
        self.facts = nn.Sequential(nn.Linear(facts, width), nn.SiLU(), nn.Linear(width, width))
        sizes = (width // 4, width // 2, width) if len(event_shape) == 3 else (width, width, width)
        first = event_shape[0] if len(event_shape) == 3 else math.prod(event_shape)
        pairs = list(zip((first, *sizes[:-1]), sizes, strict=True))
        if len(event_shape) == 3:
            self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        else:
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.shifts = nn.ModuleList(nn.Linear(width, b) for b in sizes)
        self.head = nn.Sequential(nn.Linear(sizes[-1], width), nn.SiLU(), nn.Linear(width, 1))
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(
        self,
        x: Float[Tensor, "rows *event"],
        t: Float[Tensor, " rows"],
        condition: Shaped[Tensor, "rows *shape"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Return rewards, in their own units."""
        context = self._context(t.to(x.dtype), condition)
        hidden = x if len(self.event_shape) == 3 else x.flatten(1)
        for layer, shift in zip(self.layers, self.shifts, strict=True):
            added = shift(context)
            hidden = layer(hidden)
            hidden = nn.functional.silu(hidden + (added[..., None, None] if hidden.ndim == 4 else added))
        pooled = hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden  # over pixels
        return self.mean + self.scale * self.head(pooled)[:, 0]

    def _context(self, t: Tensor, condition: Tensor | None) -> Tensor:
        turns = math.pi * 2.0 ** torch.arange(FREQUENCIES, dtype=t.dtype, device=t.device)
        parts = [t[:, None], (turns * t[:, None]).sin(), (turns * t[:, None]).cos()]
        if self.label is None and self.settings["condition_size"]:
            assert condition is not None, "the network was fitted with conditions"
            parts.append(condition.reshape(len(condition), -1).to(t.dtype))
        context = self.facts(torch.cat(parts, dim=1))
        if self.label is None:
            return context
        assert condition is not None, "the network was fitted with conditions"
        if int(condition.max()) >= self.label.num_embeddings:
            raise ConfigError(
                f"the value was fitted for labels below {self.label.num_embeddings}, got "
                f"{int(condition.max())}; fit it with this condition among its own"
            )
        return context + self.label(condition)
