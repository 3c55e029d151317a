"""Symmetry of images."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError

from .declare import built_in, check_choice

AXES = {"h": (3,), "v": (2,), "both": (2, 3)}


@built_in("symmetry")
@dataclass(frozen=True)
class Symmetry:
    """Minus the mean absolute difference between an image and its mirror image, in [-1, 0].

    Args:
        axis: ``"h"`` mirrors left and right, ``"v"`` top and bottom, ``"both"`` takes the mean of
            the two differences.
        rotation: quarter turns, 1 to 3, to compare with instead of a mirror image; 1 and 3 need
            square images.
    """

    axis: str = "h"
    rotation: int | None = None

    def __post_init__(self) -> None:
        check_choice("symmetry", "axis", self.axis, AXES)
        check_choice("symmetry", "rotation", self.rotation, (None, 1, 2, 3))

    def __call__(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, " m"]:
        if self.rotation is None:
            others = [images.flip(dim) for dim in AXES[self.axis]]
        else:
            others = [self._turned(images, self.rotation)]
        differences = [(images - other).abs().mean(dim=(1, 2, 3)) for other in others]
        return -sum(differences[1:], differences[0]) / len(differences)

    def _turned(self, images: Tensor, turns: int) -> Tensor:
        height, width = images.shape[-2:]
        if turns % 2 and height != width:
            raise ConfigError(
                f"reward 'symmetry': rotation={turns} needs square images, got {height} x {width}; "
                "use rotation=2 or an axis"
            )
        return images.rot90(turns, dims=(2, 3))
