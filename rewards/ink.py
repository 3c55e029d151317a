"""Amount of ink in drawings."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .declare import built_in


@built_in("ink")
@dataclass(frozen=True)
class Ink:
    """Share of the page that bright strokes on a dark ground cover: the mean of all values.

    ``-ink`` asks for thin strokes; a handwritten digit has about 0.13.
    """

    def __call__(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, " m"]:
        return images.mean(dim=(1, 2, 3))  # over channels and pixels
