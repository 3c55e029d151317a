"""Grids of samples as pictures, and a result in a notebook. Pillow is loaded when used."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from itscale.result import Result


def image_grid(images: Tensor, scale: int | None = None, gap: int = 2) -> Any:
    """Return a PIL image with rows of images.

    Args:
        images: (rows, columns, c, h, w) in [0, 1], c = 1 or 3.
        scale: enlarge by this factor without smoothing; None makes small images at least 56 pixels high.
        gap: pixels between images.
    """
    from PIL import Image

    rows, columns, channels, h, w = images.shape
    scale = scale or max(1, round(56 / h))
    tiles = images.clamp(0, 1).repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    h, w = h * scale, w * scale
    canvas = torch.ones(channels, rows * (h + gap) + gap, columns * (w + gap) + gap)
    for i in range(rows):
        for j in range(columns):
            top, left = gap + i * (h + gap), gap + j * (w + gap)
            canvas[:, top : top + h, left : left + w] = tiles[i, j]
    pixels = (canvas * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def png_uri(image: Any) -> str:
    """Return a PIL image as a data address."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def html_summary(result: Result) -> str:
    """Return the notebook view of a result: its numbers and, for images, the best samples."""
    shown = {k: v for k, v in result.summary().items() if v is not None}
    values = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in shown.items()}
    cells = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in values.items())
    warnings = "".join(f"<p>Note: {html.escape(w)}</p>" for w in result.warnings)
    picture = f'<img src="{png_uri(result.grid(columns=12))}"/>' if result.modality == "image" else ""
    return f"<div><table>{cells}</table>{warnings}{picture}</div>"
