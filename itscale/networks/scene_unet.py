"""A small U-Net for 32 x 32 scenes, conditional on an encoded prompt."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from itscale.networks.unet import Attention, ResidualBlock
from itscale.scenes.kinds import KINDS, MOST_OBJECTS
from itscale.scenes.prompts import ENCODING
from itscale.types import Time


class SceneUNet(nn.Module):
    """Velocity of a conditional flow on 3 x 32 x 32 images in [-1, 1].

    The image is folded to 12 x 16 x 16 first, so that all work is done at 16 x 16 and 8 x 8. Counts of the
    prompt are read as thermometers (at least one, at least two, ...), and every block at 8 x 8 is followed by
    attention: objects that are drawn far apart have to agree on their number. An all-zero encoding stands for
    "any scene". Every row is computed by itself.
    """

    def __init__(self, wide: int = 32, deep: int = 120, deep_blocks: int = 2, embedding: int = 192):
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
        self.stem = nn.Conv2d(12, wide, 3, padding=1)
        self.enter = ResidualBlock(wide, embedding)
        self.down = nn.Conv2d(wide, deep, 2, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(deep, embedding) for _ in range(deep_blocks))
        self.attentions = nn.ModuleList(Attention(deep, heads=4) for _ in range(deep_blocks))
        self.up = nn.Conv2d(deep, 4 * wide, 1)
        self.merge = nn.Conv2d(2 * wide, wide, 1)
        self.leave = ResidualBlock(wide, embedding)
        self.norm = nn.GroupNorm(8, wide)
        self.head = nn.Conv2d(wide, 12, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, x: Float[Tensor, "rows 3 32 32"], t: Time, prompt: Float[Tensor, "rows 37"]
    ) -> Float[Tensor, "rows 3 32 32"]:
        """Return the velocity at ``x`` and time ``t``, which is ``()`` or ``(rows,)``."""
        embedding = F.silu(self.time(self._waves(t.to(x.dtype))) + self.prompt(self._features(prompt)))
        wide = self.enter(self.stem(F.pixel_unshuffle(x, 2)), embedding)
        deep = self.down(wide)
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            deep = attention(block(deep, embedding))
        hidden = self.merge(torch.cat([wide, F.pixel_shuffle(self.up(deep), 2)], dim=1))
        hidden = F.silu(self.norm(self.leave(hidden, embedding)))
        return F.pixel_shuffle(self.head(hidden), 2)

    def _waves(self, t: Tensor) -> Tensor:
        phase = t.reshape(-1, 1) * self.frequencies
        return torch.cat([phase.cos(), phase.sin()], dim=1)

    def _features(self, prompt: Tensor) -> Tensor:
        counts, rest = prompt[:, : len(KINDS)], prompt[:, len(KINDS) :]
        levels = torch.arange(1, MOST_OBJECTS + 1, device=prompt.device)
        reached = (counts[:, :, None] >= levels).flatten(1).to(prompt.dtype)
        return torch.cat([reached, rest], dim=1)
