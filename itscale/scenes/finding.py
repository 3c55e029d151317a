"""Finding the objects in images: regions of one colour, each compared with the three shapes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itscale.scenes.drawing import AREAS, coverage
from itscale.scenes.kinds import COLOURS, KINDS, SHAPES
from itscale.scenes.regions import OTHER, greatest_around, label, segment

LEAST_AREA = 10
"""Pixels below which a region is a speck and no object; the smallest triangle has 22."""
MOST_REGIONS = 6
"""Regions looked at per image, the largest; the rest is counted as odd."""
MISFIT = 0.25
"""Share of a region's area by which it may differ from its shape."""


class Found(NamedTuple):
    """What was found in each image.

    Attributes:
        counts: objects of each of ``KINDS``.
        odd: regions that are no such object.
        x: mean horizontal position of the objects of a kind, in pixels; NaN where there is none.
    """

    counts: Int[Tensor, "m kinds"]
    odd: Int[Tensor, " m"]
    x: Float[Tensor, "m kinds"]


def find(images: Float[Tensor, "m 3 h w"]) -> Found:
    """Find the objects of scenes in [0, 1]: count them by kind and say where they are.

    A region of one colour is an object of the shape that fits it best among a circle, a square and a triangle
    of its own area and centroid, drawn anti-aliased; it is odd if that differs by more than ``MISFIT`` of the
    area, as two objects that touch do.
    """
    images = images.detach().float()
    m = len(images)
    segmentation = segment(images)
    labels = label(segmentation.classes)
    areas, roots = _largest(labels)
    is_region = areas[:, :MOST_REGIONS] >= LEAST_AREA
    masks = labels[:, None] == roots[:, :MOST_REGIONS, None, None]
    colours = segmentation.classes.flatten(1).gather(1, (roots[:, :MOST_REGIONS] - 1).clamp(min=0))
    cover = _cover(masks, segmentation.shares, colours)
    shapes, misfits, x = _fit(cover)
    is_object = is_region & (colours >= 0) & (colours < OTHER) & (misfits <= MISFIT)
    kinds = torch.where(is_object, colours * len(SHAPES) + shapes, len(KINDS))
    nothing = torch.zeros(m, len(KINDS) + 1, device=images.device)
    counts = nothing.scatter_add(1, kinds, torch.ones_like(x))[:, :-1]
    places = nothing.scatter_add(1, kinds, x)[:, :-1] / counts
    odd = (areas >= LEAST_AREA).sum(dim=1) - is_object.sum(dim=1)
    return Found(counts.long(), odd, places)


def _largest(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of all regions, falling, with their labels; 0 for the ground."""
    flat = labels.flatten(1)
    areas = torch.zeros(len(flat), flat.shape[1] + 1, device=labels.device)
    areas = areas.scatter_add(1, flat, (flat > 0).float())
    return areas.topk(min(64, areas.shape[1]), dim=1)


def _cover(masks: Tensor, shares: Tensor, colours: Tensor) -> Float[Tensor, "m regions h w"]:
    """Share of each pixel that a region covers: its own pixels and the thin edge around them."""
    around = greatest_around(masks.float())
    index = colours.clamp(0, len(COLOURS) - 1)[:, :, None, None].expand_as(masks)
    return around * shares.gather(1, index)


def _fit(cover: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The shape that fits each region best, by how much it differs, and the region's horizontal position."""
    h, w = cover.shape[-2:]
    area = cover.sum(dim=(2, 3)).clamp(min=1e-6)  # over pixels
    across = torch.arange(w, device=cover.device) + 0.5
    down = torch.arange(h, device=cover.device) + 0.5
    x = (cover.sum(dim=2) * across).sum(dim=2) / area
    y = (cover.sum(dim=3) * down).sum(dim=2) / area
    sizes = (area / torch.tensor(AREAS, device=cover.device)[:, None, None]).sqrt()
    drawn = coverage(across - x[..., None, None], down[:, None] - y[..., None, None], sizes[..., None, None])
    misfits = (drawn - cover).abs().sum(dim=(3, 4)) / area
    misfit, shape = misfits.min(dim=0)
    return shape, misfit, x
