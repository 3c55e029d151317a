"""Brightness of images."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .declare import built_in
from .luminance import luminance


@built_in("brightness")
@dataclass(frozen=True)
class Brightness:
    """Mean luminance, 0 for black and 1 for white; dark images by a negative weight."""

    def __call__(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, " m"]:
        return luminance(images).mean(dim=(1, 2))  # over pixels
