"""Contrast of images."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .declare import built_in
from .luminance import luminance


@built_in("contrast")
@dataclass(frozen=True)
class Contrast:
    """Standard deviation of the luminance over the pixels: 0 for flat, 0.5 for half black, half white."""

    def __call__(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, " m"]:
        variance = luminance(images).flatten(1).var(dim=1, correction=0)  # over pixels
        return (variance + 1e-12).sqrt()  # the root alone has no gradient at a flat image
