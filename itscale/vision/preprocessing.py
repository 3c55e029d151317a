"""From images in [0, 1] to what an image network expects: resized, cropped or padded, normalised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """One network's preprocessing, in two forms that agree to about one grey level.

    ``floats`` is differentiable and stays on the images' device. ``eight_bit`` repeats the published code:
    values are rounded to 8 bits and, where it does so, resized by Pillow. Images of the right size
    are not resized.

    Args:
        size: height and width that the network takes.
        mean, std: per channel.
        fit: ``"crop"`` brings the shorter side to size and cuts the centre out, ``"pad"`` brings the longer
            side to size and fills up, ``"stretch"`` changes the aspect ratio.
        shorter: length of the shorter side before a crop, if it is not that of ``size``.
        interpolation: ``"bicubic"`` or ``"bilinear"``, both with antialiasing.
        fill: value of padding, in [0, 1].
        resizes: ``"bytes"`` if the published code resizes 8-bit images, which clips overshoots, ``"floats"``
            if it converts first.
        offset: how a crop that cannot be central is placed: ``"round"`` (torchvision; half to even) or
            ``"floor"`` (transformers).
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    fit: Literal["crop", "pad", "stretch"] = "crop"
    shorter: int | None = None
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: float = 0.0
    resizes: Literal["bytes", "floats"] = "bytes"
    offset: Literal["round", "floor"] = "round"

    def floats(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m 3 hh ww"]:
        """Preprocess differentiably, without rounding."""
        return self._normalise(self._place(self._resize_floats(images.float())))

    def eight_bit(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m 3 hh ww"]:
        """Preprocess as the published code does; no gradient."""
        pixels = as_bytes(images)
        target = self.resized(*images.shape[-2:])
        if self.resizes == "floats" or target == tuple(images.shape[-2:]):
            return self._normalise(self._place(self._resize_floats(pixels.float() / 255)))
        resized = torch.stack([_pillow_resize(image, target, self.interpolation) for image in pixels.cpu()])
        return self._normalise(self._place(resized.to(images.device).float() / 255))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing, before crop or padding."""
        if self.fit == "stretch":
            return self.size
        if self.fit == "pad":
            ratio = max(height / self.size[0], width / self.size[1])
            return round(height / ratio), round(width / ratio)
        if self.shorter is None and self.size[0] != self.size[1]:
            ratio = min(height / self.size[0], width / self.size[1])
            return round(height / ratio), round(width / ratio)
        shorter = self.shorter or self.size[0]
        longer = int(shorter * max(height, width) / min(height, width))
        return (shorter, longer) if height <= width else (longer, shorter)

    def _resize_floats(self, images: Tensor) -> Tensor:
        target = self.resized(*images.shape[-2:])
        if target == tuple(images.shape[-2:]):
            return images
        resized = F.interpolate(
            images, size=target, mode=self.interpolation, antialias=True, align_corners=False
        )
        return resized.clamp(0, 1) if self.resizes == "bytes" else resized

    def _place(self, images: Tensor) -> Tensor:
        """Pad, then crop, each about the centre."""
        (height, width), (wanted_height, wanted_width) = images.shape[-2:], self.size
        down, right = max(0, wanted_height - height), max(0, wanted_width - width)
        if down or right:
            sides = (right // 2, right - right // 2, down // 2, down - down // 2)
            images = F.pad(images, sides, value=self.fill)
            height, width = images.shape[-2:]
        top, left = self._start(height - wanted_height), self._start(width - wanted_width)
        return images[..., top : top + wanted_height, left : left + wanted_width]

    def _start(self, surplus: int) -> int:
        return round(surplus / 2) if self.offset == "round" else math.floor(surplus / 2)

    def _normalise(self, images: Tensor) -> Tensor:
        mean = images.new_tensor(self.mean).reshape(3, 1, 1)
        std = images.new_tensor(self.std).reshape(3, 1, 1)
        return (images - mean) / std


def as_bytes(images: Float[Tensor, "m c h w"]) -> Tensor:
    """Round images in [0, 1] to uint8, without their gradient."""
    return (images.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)


def as_pillow(images: Float[Tensor, "m 3 h w"]) -> list:
    """Pillow images, values rounded to 8 bits."""
    from PIL import Image

    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in as_bytes(images).cpu()]


def _pillow_resize(image: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    resized = picture.resize((size[1], size[0]), filters[interpolation])
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
