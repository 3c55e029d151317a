"""A small U-Net for 32 x 32 scenes, conditional on an encoded prompt."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from itscale.networks.unet import Attention, ResidualBlock
from itscale.scenes.kinds import COLOURS, KINDS, MOST_OBJECTS, SHAPES
from itscale.scenes.prompts import ENCODING
from itscale.types import Time


class PromptAttention(nn.Module):
    """Attention of the pixels of a small map to the kinds that a prompt names, as a residual from zero.

    A learnt token that is always there is all that "any scene" offers.
    """

    def __init__(self, channels: int, token: int, heads: int = 4, head: int = 16):
        super().__init__()
        self.heads, self.width = heads, heads * head
        self.norm = nn.GroupNorm(8, channels)
        self.query = nn.Conv2d(channels, self.width, 1)
        self.key_value = nn.Linear(token, 2 * self.width)
        self.nothing = nn.Parameter(torch.zeros(2 * self.width))
        self.out = nn.Conv2d(self.width, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        x: Float[Tensor, "rows c h w"],
        tokens: Float[Tensor, "rows kinds d"],
        is_named: Bool[Tensor, "rows kinds"],
    ) -> Float[Tensor, "rows c h w"]:
        rows, _, h, w = x.shape
        key_value = F.pad(self.key_value(tokens), (0, 0, 1, 0))
        key_value = key_value + F.pad(self.nothing[None, None], (0, 0, 0, len(KINDS)))
        key, value = key_value.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query = self.query(self.norm(x)).reshape(rows, self.heads, -1, h * w).transpose(-1, -2)
        mask = F.pad(is_named, (1, 0), value=True)[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return x + self.out(mixed.transpose(-1, -2).reshape(rows, self.width, h, w))


class SceneUNet(nn.Module):
    """Velocity of a conditional flow on 3 x 32 x 32 images in [-1, 1].

    The image is folded to 12 x 16 x 16 first, so that all work is done at 16 x 16 and 8 x 8. Counts of the
    prompt are read as thermometers (at least one, at least two, ...). Every block at 8 x 8 is followed by
    attention to the kinds that the prompt names, since an object is of one of them, and to the other pixels,
    since objects far apart have to agree on their number. An all-zero encoding stands for "any scene". Every
    row is computed by itself.
    """

    frequencies: Tensor

    def __init__(
        self, wide: int = 32, deep: int = 120, deep_blocks: int = 2, embedding: int = 192, token: int = 96
    ):
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0.0, math.log(200.0), embedding // 4)), persistent=False
        )
        self.time = nn.Sequential(
            nn.Linear(embedding // 2, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        features = ENCODING + (MOST_OBJECTS - 1) * len(KINDS)
        self.prompt = nn.Sequential(
            nn.Linear(features, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.token = nn.Sequential(
            nn.Linear(len(COLOURS) + len(SHAPES) + MOST_OBJECTS + 2, token),
            nn.SiLU(),
            nn.Linear(token, token),
        )
        self.stem = nn.Conv2d(12, wide, 3, padding=1)
        self.enter = ResidualBlock(wide, embedding)
        self.down = nn.Conv2d(wide, deep, 2, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(deep, embedding) for _ in range(deep_blocks))
        self.attentions = nn.ModuleList(Attention(deep, heads=4) for _ in range(deep_blocks))
        self.readings = nn.ModuleList(PromptAttention(deep, token) for _ in range(deep_blocks))
        self.up = nn.Conv2d(deep, 4 * wide, 1)
        self.merge = nn.Conv2d(2 * wide, wide, 1)
        self.leave = ResidualBlock(wide, embedding)
        self.norm = nn.GroupNorm(8, wide)
        self.head = nn.Conv2d(wide, 12, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, x: Float[Tensor, "rows 3 32 32"], t: Time, prompt: Float[Tensor, "rows 37"]
    ) -> Float[Tensor, "rows 3 32 32"]:
        """Return the velocity at ``x`` and time ``t``, which is ``()`` or ``(rows,)``."""
        counts, sides, is_given = prompt.split([len(KINDS), 2 * len(KINDS), 1], dim=1)
        levels = torch.arange(1, MOST_OBJECTS + 1, device=prompt.device)
        reached = (counts[:, :, None] >= levels).to(prompt.dtype)
        features = torch.cat([reached.flatten(1), sides, is_given], dim=1)
        embedding = F.silu(self.time(self._waves(t.to(x.dtype))) + self.prompt(features))
        named = self._named(prompt)
        places = sides.unflatten(1, (2, -1)).transpose(1, 2)
        tokens = self.token(torch.cat([named.expand(len(x), -1, -1), reached, places], dim=2))
        wide = self.enter(self.stem(F.pixel_unshuffle(x, 2)), embedding)
        deep = self.down(wide)
        for block, reading, attention in zip(self.blocks, self.readings, self.attentions, strict=True):
            deep = attention(reading(block(deep, embedding), tokens, counts > 0))
        hidden = self.merge(torch.cat([wide, F.pixel_shuffle(self.up(deep), 2)], dim=1))
        hidden = F.silu(self.norm(self.leave(hidden, embedding)))
        return F.pixel_shuffle(self.head(hidden), 2)

    def _waves(self, t: Tensor) -> Tensor:
        phase = t.reshape(-1, 1) * self.frequencies
        return torch.cat([phase.cos(), phase.sin()], dim=1)

    def _named(self, like: Tensor) -> Tensor:
        """Colour and shape of every kind, each marked by a one."""
        kinds = torch.arange(len(KINDS), device=like.device)
        colours = F.one_hot(kinds // len(SHAPES), len(COLOURS))
        return torch.cat([colours, F.one_hot(kinds % len(SHAPES), len(SHAPES))], dim=1).to(like.dtype)
