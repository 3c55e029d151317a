"""Luminance of images, shared by rewards that ignore colour."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def luminance(images: Float[Tensor, "m c h w"]) -> Float[Tensor, "m h w"]:
    """The luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B; grey images are their own."""
    if images.shape[1] == 1:
        return images[:, 0]
    red, green, blue = images.unbind(dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
