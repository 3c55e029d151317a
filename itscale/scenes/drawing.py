"""Drawing: anti-aliased shapes on a plain ground."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itscale.scenes.kinds import COLOURS, SHAPES, SIDE

SQUARE = 0.9
"""Half the side of a square, in units of the size; a circle's radius is the size."""
HALF_BASE, HEIGHT = 1.1, 2.0
"""Half the base and the height of a triangle, in units of the size; its centre is the centroid."""
AREAS = (math.pi, 4 * SQUARE**2, HALF_BASE * HEIGHT)
"""Areas of the shapes at size 1."""
REACHES = ((1.0, 1.0, 1.0), (SQUARE, SQUARE, SQUARE), (HALF_BASE, 2 * HEIGHT / 3, HEIGHT / 3))
"""How far each shape reaches at size 1: to both sides, up, down."""


def coverage(right: Tensor, down: Tensor, size: Tensor) -> Float[Tensor, "shapes ..."]:
    """Share of each pixel that lies inside a circle, a square and a triangle, by the distance to the edge.

    Args:
        right: pixel centre minus the object's centre, in pixels.
        down: the same, downwards; broadcasts with ``right`` and ``size``.
        size: of each of the three shapes, stacked first, in pixels.
    """
    circle = size[0] - torch.hypot(right, down)
    square = SQUARE * size[1] - torch.maximum(right.abs(), down.abs())
    half, height = HALF_BASE * size[2], HEIGHT * size[2]
    below_apex = down + 2 * height / 3
    slope = (half * below_apex - height * right.abs()) / torch.hypot(half, height)
    triangle = torch.minimum(slope, height - below_apex)
    return (torch.stack(torch.broadcast_tensors(circle, square, triangle)) + 0.5).clamp(0, 1)


def draw(
    kinds: Int[Tensor, "n objects"],
    centres: Float[Tensor, "n objects 2"],
    sizes: Float[Tensor, "n objects"],
    tints: Float[Tensor, "n objects 3"],
    grounds: Float[Tensor, " n"],
) -> Float[Tensor, "n 3 32 32"]:
    """Return images in [0, 1].

    Args:
        kinds: index into ``KINDS``, -1 for none.
        centres: x to the right and y down, in pixels from the top left corner.
        sizes: in pixels, see ``AREAS``.
        tints: added to the colours.
        grounds: grey level of the ground.
    """
    pixels = torch.arange(SIDE, dtype=centres.dtype, device=centres.device) + 0.5
    right = pixels - centres[..., 0, None, None]
    down = pixels[:, None] - centres[..., 1, None, None]
    every = coverage(right, down, sizes[None, ..., None, None].expand(len(SHAPES), *sizes.shape, 1, 1))
    shape = (kinds % len(SHAPES))[None, ..., None, None].expand(1, *every.shape[1:])
    cover = every.gather(0, shape)[0] * (kinds >= 0)[..., None, None]
    palette = torch.tensor(list(COLOURS.values()), dtype=centres.dtype, device=centres.device)
    colours = palette[kinds.clamp(min=0) // len(SHAPES)] + tints
    ground = grounds[:, None, None, None]
    objects = cover[:, :, None] * (colours[..., None, None] - ground[:, None])  # (n, objects, 3, h, w)
    return (ground + objects.sum(dim=1)).clamp(0, 1).float()
