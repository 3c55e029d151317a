"""A small bidirectional transformer over masked tokens: which token may stand at every position."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from itscale.errors import ConfigError


class MaskedTransformer(nn.Module):
    """Logits of every position given the visible tokens; hidden positions hold the token ``vocabulary``.

    Pre-normalised blocks; attention adds a learned number per head and distance, so that what is learned of a
    neighbourhood serves everywhere, and a learned embedding per position tells beginning from end. No time
    goes in: the optimal logits depend on the visible tokens alone.

    Args:
        vocabulary: tokens of a complete sequence, V; the token V hides a position.
        length: of all sequences.
        width: of the residual stream, a multiple of ``heads``.
        layers: blocks.
        heads: of the attention.
        dropout: share of what a block adds that is dropped in training; for small data.

    Raises:
        ConfigError: for sizes below 1, a width that the heads do not divide, or a share outside [0, 1).

    Example:
        >>> network = MaskedTransformer(vocabulary=4, length=8, width=16, layers=1, heads=2)
        >>> network(torch.full((3, 8), 4)).shape
        torch.Size([3, 8, 4])

    Reference:
        Vaswani et al. (2017), "Attention Is All You Need", arXiv:1706.03762; distances as in Raffel et al.
        (2020), arXiv:1910.10683, one bucket per distance.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__()
        sizes = {"vocabulary": vocabulary, "length": length, "width": width, "layers": layers, "heads": heads}
        for name, value in sizes.items():
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if width % heads:
            raise ConfigError(f"width must be a multiple of heads={heads}, got {width}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {dropout}")
        self.vocabulary, self.length = vocabulary, length
        self.token = nn.Embedding(vocabulary + 1, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, length, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Int64[Tensor, "rows length"]) -> Float[Tensor, "rows length vocabulary"]:
        x = self.token(tokens) + self.position
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x)).float()


class Block(nn.Module):
    """Attention with a bias per distance, then two layers per position; both start at zero."""

    def __init__(self, width: int, heads: int, length: int, dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.distance = nn.Parameter(torch.zeros(heads, 2 * length - 1))
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)
        for layer in (self.mix, self.contract):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        where = torch.arange(length)
        self.register_buffer("offsets", where[:, None] - where + length - 1, persistent=False)

    def forward(self, x: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows length width"]:
        rows, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).reshape(rows, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = self.distance[:, cast(Tensor, self.offsets)].to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.drop(self.mix(mixed.transpose(1, 2).reshape(rows, length, width)))
        return x + self.drop(self.contract(F.gelu(self.expand(self.norm(x)), approximate="tanh")))
