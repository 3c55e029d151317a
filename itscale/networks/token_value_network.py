"""A small network that says what reward a masked or noisy sequence will come to."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from itscale.errors import ConfigError
from itscale.networks.masked_transformer import Block

HEADS, LAYERS, FREQUENCIES = 4, 2, 4


class TokenValueNetwork(nn.Module):
    """Sequences, the share of clean tokens and a condition to one number each, by two blocks of attention.

    Args:
        tokens: how many different numbers a position can hold, the mask included.
        length: of all sequences.
        condition_size: numbers that describe a condition; 0 if there is none.
        labels: how many labels there are, where a condition is a whole number.
        width: of the residual stream; it is rounded up to a multiple of 4.
    """

    def __init__(
        self, tokens: int, length: int, condition_size: int = 0, labels: int = 0, width: int = 96
    ) -> None:
        super().__init__()
        self.event_shape = (length,)
        self.settings: dict[str, Any] = {
            "tokens": tokens,
            "length": length,
            "condition_size": condition_size,
            "labels": labels,
            "width": width,
        }
        width = math.ceil(width / HEADS) * HEADS
        self.token = nn.Embedding(tokens, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.label = nn.Embedding(labels, width) if labels else None
        self.facts = nn.Linear(1 + 2 * FREQUENCIES + (0 if labels else condition_size), width)
        self.blocks = nn.ModuleList(Block(width, HEADS, length) for _ in range(LAYERS))
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(
        self,
        x: Int64[Tensor, "rows length"],
        t: Float[Tensor, " rows"],
        condition: Shaped[Tensor, "rows *shape"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Return rewards, in their own units."""
        share = t.float()[:, None]
        turns = math.pi * 2.0 ** torch.arange(FREQUENCIES, device=share.device)
        facts = [share, (turns * share).sin(), (turns * share).cos()]
        if self.settings["condition_size"] or self.label is not None:
            assert condition is not None, "the network was fitted with conditions"
            if self.label is None:
                facts.append(condition.reshape(len(condition), -1).float())
        context = self.facts(torch.cat(facts, dim=1))
        if self.label is not None:
            assert condition is not None
            if int(condition.max()) >= self.label.num_embeddings:
                raise ConfigError(
                    f"the value was fitted for labels below {self.label.num_embeddings}, got "
                    f"{int(condition.max())}; fit it with this condition among its own"
                )
            context = context + self.label(condition)
        hidden = self.token(x) + self.position + context[:, None]
        for block in self.blocks:
            hidden = block(hidden)
        return self.mean + self.scale * self.head(hidden.mean(dim=1))[:, 0]
