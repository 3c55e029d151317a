"""Images at the border: one converter for what people hold, one check for what a reward sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import RewardError

TOLERANCE = 1e-3
"""How far outside [0, 1] a pixel may lie: rounding of half-precision decoders, no more."""


def as_image_batch(images: Any) -> Float[Tensor, "n c h w"]:
    """Convert images of any common kind to float ``[n, c, h, w]`` in [0, 1], ``c`` = 1 or 3.

    Accepts one or many of: PIL images, numpy arrays or tensors, uint8 (divided by 255) or floating
    point, channels first or last, with or without an axis for grey. A fourth (alpha) channel of a
    PIL image is dropped. A floating-point tensor that already is a batch passes untouched, with its
    gradient. Values are not clamped.

    Raises:
        RewardError: if the shape cannot be read as images, or the sizes differ.
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise RewardError("no images were given")
        singles = [_one(image) for image in images]
        shapes = {tuple(image.shape) for image in singles}
        if len(shapes) > 1:
            raise RewardError(f"images of one batch differ in shape: {sorted(shapes)}; resize them first")
        return torch.stack(singles)
    tensor = _floating(images)
    if tensor.ndim == 4:
        return _channels_first(tensor)
    return _one(images)[None]


def _floating(image: Any) -> Tensor:
    if not isinstance(image, Tensor):
        if hasattr(image, "convert"):  # PIL, without importing it
            image = image if image.mode in ("L", "RGB") else image.convert("RGB")
        image = torch.from_numpy(np.array(image))
    if image.is_floating_point():
        return image
    return image.to(torch.float32) if image.dtype == torch.bool else image.to(torch.float32) / 255


def _one(image: Any) -> Tensor:
    tensor = _floating(image)
    if tensor.ndim == 2:
        return tensor[None]
    if tensor.ndim != 3:
        raise RewardError(f"cannot read shape {list(tensor.shape)} as an image; expected [c, h, w]")
    return _channels_first(tensor[None])[0]


def _channels_first(batch: Tensor) -> Tensor:
    if batch.shape[1] in (1, 3):
        return batch
    if batch.shape[3] in (1, 3):
        return batch.permute(0, 3, 1, 2)
    raise RewardError(
        f"cannot read shape {list(batch.shape)} as images; expected [n, c, h, w] with c = 1 or 3"
    )


def check_images(images: Tensor, name: str) -> Tensor | None:
    """Raise unless every finite image lies in [0, 1]; one copy to the host where all are finite.

    Returns:
        Bool ``[n]`` on the CPU, True for images without NaN or infinity; ``None`` if all are.

    Raises:
        RewardError: naming the reward and the lowest and highest pixel seen.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise RewardError(
            f"reward {name!r} got {images.dtype} images of shape {list(images.shape)}; expected floating "
            "point [n, c, h, w] with c = 1 or 3. as_image_batch converts other forms"
        )
    if images.numel() == 0:
        return None
    lowest, highest = torch.stack(
        images.detach().aminmax()
    ).tolist()  # over all: many times faster than by image
    finite = None
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        low, high = torch.stack(images.detach().flatten(1).aminmax(dim=1)).to("cpu", torch.float32)
        finite = low.isfinite() & high.isfinite()
        if not finite.any():
            return finite
        lowest, highest = low[finite].min().item(), high[finite].max().item()
    if lowest < -TOLERANCE or highest > 1 + TOLERANCE:
        raise RewardError(
            f"reward {name!r} got images with values from {lowest:.4g} to {highest:.4g}, not in [0, 1]. "
            "Images in [-1, 1] convert by (x + 1) / 2; for raw model states decode first"
        )
    return finite


def as_rgb(images: Tensor) -> Tensor:
    """Images with three channels; one channel is repeated as a view, without a copy."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
