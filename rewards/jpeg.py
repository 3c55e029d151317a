"""Size of images as JPEG files: small for smooth and plain ones, large for rich texture and noise."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError

from .declare import built_in, check_choice

BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6}
CHROMA_420 = 2  # Pillow's number for chroma at half resolution in both directions


@built_in("jpeg-compressibility")
@dataclass(frozen=True)
class JpegCompressibility:
    """Minus the size of the encoded image: the smaller the file, the higher the score.

    Encodes RGB at 4:2:0 without optimised tables, on the CPU, about a millisecond an image. Grey
    images are encoded as RGB, so that scores do not depend on how greys are stored.

    Args:
        quality: of the encoder, 1 to 95 (Pillow's scale).
        unit: ``"B"``, ``"kB"`` (1000 bytes) or ``"MB"``.

    Reference:
        Black et al. (2023), "Training Diffusion Models with Reinforcement Learning",
        arXiv:2305.13301, section 5.1 (their unit is kB too).
    """

    quality: int = 95
    unit: str = "kB"

    def __post_init__(self) -> None:
        _check("jpeg-compressibility", self.quality, self.unit)

    def __call__(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, " m"]:
        return -encoded_bytes(images, self.quality) / BYTES[self.unit]


@built_in("jpeg-incompressibility")
@dataclass(frozen=True)
class JpegIncompressibility:
    """The size of the encoded image: the larger the file, the higher the score.

    Args:
        quality: of the encoder, 1 to 95 (Pillow's scale).
        unit: ``"B"``, ``"kB"`` (1000 bytes) or ``"MB"``.
    """

    quality: int = 95
    unit: str = "kB"

    def __post_init__(self) -> None:
        _check("jpeg-incompressibility", self.quality, self.unit)

    def __call__(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, " m"]:
        return encoded_bytes(images, self.quality) / BYTES[self.unit]


def encoded_bytes(images: Float[Tensor, "m 3 h w"], quality: int) -> Float[Tensor, " m"]:
    """Bytes of each image as a JPEG file, values rounded to 8 bits first."""
    from PIL import Image

    pixels = (images.detach().float() * 255).round().clamp(0, 255).to("cpu", torch.uint8)
    sizes = []
    for image in pixels.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(
            file, format="JPEG", quality=quality, subsampling=CHROMA_420, optimize=False
        )
        sizes.append(file.tell())
    return torch.tensor(sizes, dtype=torch.float32, device=images.device)


def _check(name: str, quality: int, unit: str) -> None:
    check_choice(name, "unit", unit, BYTES)
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 95:
        raise ConfigError(f"reward {name!r}: quality is {quality!r}; give a whole number from 1 to 95")
