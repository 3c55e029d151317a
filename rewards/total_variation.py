"""Total variation of images, and its opposite."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .declare import built_in


@built_in("total-variation")
@dataclass(frozen=True)
class TotalVariation:
    """Mean absolute difference of neighbouring pixels, over rows and columns alike; 0 for flat images.

    Reference:
        Rudin, Osher and Fatemi (1992), "Nonlinear total variation based noise removal algorithms",
        doi:10.1016/0167-2789(92)90242-F; here the anisotropic form, as a mean instead of a sum.
    """

    def __call__(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, " m"]:
        return total_variation(images)


@built_in("smoothness")
@dataclass(frozen=True)
class Smoothness:
    """Minus the total variation: flat images score 0, a chequerboard of single pixels -1."""

    def __call__(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, " m"]:
        return -total_variation(images)


def total_variation(images: Float[Tensor, "m c h w"]) -> Float[Tensor, " m"]:
    """The mean over both directions of the mean absolute difference to the next pixel, in [0, 1]."""
    down = images.diff(dim=2).abs().mean(dim=(1, 2, 3))
    right = images.diff(dim=3).abs().mean(dim=(1, 2, 3))
    return (down + right) / 2
