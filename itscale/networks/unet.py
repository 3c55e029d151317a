"""A small class-conditional U-Net for 28 x 28 digits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from itscale.types import Time


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions whose middle normalisation is scaled and shifted by the embedding.

    The second convolution starts at zero, so that a fresh block is the identity.
    """

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.norm_in = nn.GroupNorm(8, channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.norm_out = nn.GroupNorm(8, channels)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        _silence(self.conv_out)

    def forward(
        self, x: Float[Tensor, "rows c h w"], embedding: Float[Tensor, "rows d"]
    ) -> Float[Tensor, "rows c h w"]:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)  # over channels
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        hidden = torch.addcmul(shift, self.norm_out(hidden), 1 + scale)
        return x + self.conv_out(F.silu(hidden))


class Attention(nn.Module):
    """Self-attention over all pixels of a small map, as a residual that starts at zero."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        _silence(self.out)

    def forward(self, x: Float[Tensor, "rows c h w"]) -> Float[Tensor, "rows c h w"]:
        rows, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(rows, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        mixed = F.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + self.out(mixed.transpose(-1, -2).reshape(rows, c, h, w))


class DigitUNet(nn.Module):
    """Velocity of a class-conditional flow on 1 x 28 x 28 images in [-1, 1].

    The image is folded to 4 x 14 x 14 first, so that all work is done at 14 x 14 and 7 x 7. Label
    ``NO_CLASS`` (10) stands for "any digit". Every row is computed by itself: the normalisation is by group
    of channels, never by batch.

    Reference:
        Ho et al. (2020), "Denoising Diffusion Probabilistic Models", arXiv:2006.11239 (the block design);
        Dhariwal and Nichol (2021), arXiv:2105.05233 (scale and shift by the embedding).
    """

    CLASSES = 10
    NO_CLASS = 10

    frequencies: Tensor

    def __init__(self, wide: int = 40, deep: int = 128, deep_blocks: int = 2, embedding: int = 128):
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0.0, math.log(200.0), embedding // 4)), persistent=False
        )
        self.time = nn.Sequential(
            nn.Linear(embedding // 2, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.label = nn.Embedding(self.CLASSES + 1, embedding)
        self.stem = nn.Conv2d(4, wide, 3, padding=1)
        self.enter = ResidualBlock(wide, embedding)
        self.down = nn.Conv2d(wide, deep, 2, stride=2)
        blocks = [ResidualBlock(deep, embedding) for _ in range(deep_blocks)]
        self.before = nn.ModuleList(blocks[: (deep_blocks + 1) // 2])
        self.attention = Attention(deep, heads=4)
        self.after = nn.ModuleList(blocks[(deep_blocks + 1) // 2 :])
        self.up = nn.Conv2d(deep, 4 * wide, 1)
        self.merge = nn.Conv2d(2 * wide, wide, 1)
        self.leave = ResidualBlock(wide, embedding)
        self.norm = nn.GroupNorm(8, wide)
        self.head = nn.Conv2d(wide, 4, 3, padding=1)
        _silence(self.head)

    def forward(
        self, x: Float[Tensor, "rows 1 28 28"], t: Time, label: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows 1 28 28"]:
        """Return the velocity at ``x`` and time ``t``, which is ``()`` or ``(rows,)``."""
        embedding = F.silu(self.time(self._waves(t.to(x.dtype))) + self.label(label))
        wide = self.enter(self.stem(F.pixel_unshuffle(x, 2)), embedding)
        deep = self.down(wide)
        for block in self.before:
            deep = block(deep, embedding)
        deep = self.attention(deep)
        for block in self.after:
            deep = block(deep, embedding)
        hidden = self.merge(torch.cat([wide, F.pixel_shuffle(self.up(deep), 2)], dim=1))
        hidden = F.silu(self.norm(self.leave(hidden, embedding)))
        return F.pixel_shuffle(self.head(hidden), 2)

    def _waves(self, t: Tensor) -> Tensor:
        phase = t.reshape(-1, 1) * self.frequencies
        return torch.cat([phase.cos(), phase.sin()], dim=1)


def _silence(layer: nn.Conv2d) -> None:
    """Let a layer start by adding nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def multiply_adds(network: nn.Module, *inputs: Tensor) -> int:
    """Count the multiply-adds of one forward call in convolutions and linear layers, plus attention products.

    Normalisations, activations and sums are not counted.
    """
    total = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, Attention):
            rows, c, h, w = output.shape
            total += 2 * rows * c * (h * w) ** 2

    handles = [module.register_forward_hook(count) for module in network.modules()]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return total
