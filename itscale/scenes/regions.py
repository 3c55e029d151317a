"""Regions of one colour in a batch of images: unmixing, and labels of connected pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itscale.scenes.generator import GROUNDS
from itscale.scenes.kinds import COLOURS

OTHER = len(COLOURS)
"""The class of pixels that are neither ground nor a mixture of it with one colour."""
OFF_COLOUR = 0.2
"""Distance in RGB beyond which a pixel is no such mixture; tint and ground account for at most 0.14."""


class Segmentation(NamedTuple):
    """Images by colour.

    Attributes:
        classes: index into ``COLOURS``, ``OTHER``, or -1 for the ground.
        shares: how far each pixel lies on the way from the ground to each colour, 0 to 1.
    """

    classes: Int[Tensor, "m h w"]
    shares: Float[Tensor, "m colours h w"]


def segment(images: Float[Tensor, "m 3 h w"]) -> Segmentation:
    """Give every pixel the colour whose mixture with the ground fits it best, if its share is half or more.

    Edges are mixtures, so the nearest colour will not do: half red and half ground is nearer to yellow.
    """
    ground = sum(GROUNDS) / 2
    arms = torch.tensor(list(COLOURS.values()), dtype=images.dtype, device=images.device) - ground
    pixels = images - ground
    lengths = arms.square().sum(dim=1)[:, None, None]
    along = torch.einsum("mchw,kc->mkhw", pixels, arms)
    shares = (along / lengths).clamp(0, 1)
    distances = pixels.square().sum(dim=1, keepdim=True) + shares * (shares * lengths - 2 * along)
    distance, best = distances.min(dim=1)
    share = shares.gather(1, best[:, None])[:, 0]
    classes = torch.where(share >= 0.5, best, -1)
    return Segmentation(torch.where(distance > OFF_COLOUR**2, OTHER, classes), shares)


def label(classes: Int[Tensor, "m h w"]) -> Int[Tensor, "m h w"]:
    """Label connected pixels of one class, over eight neighbours: 1 + a pixel of the region; 0 is the ground.

    Every pixel takes the largest label around it within its class until nothing changes, for all images at
    once. That is at most as many rounds as the longest shortest path inside a region.
    """
    h, w = classes.shape[-2:]
    masks = (classes[:, None] == torch.arange(OTHER + 1, device=classes.device)[:, None, None]).float()
    labels = masks * torch.arange(1.0, h * w + 1, device=classes.device).reshape(h, w)  # exact below 2^24
    while True:
        grown = greatest_around(labels) * masks
        if torch.equal(grown, labels):
            return labels.sum(dim=1).long()  # over classes: a pixel has one
        labels = grown


def greatest_around(x: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
    """Greatest of each pixel and its eight neighbours, rows first; six times as fast as pooling on a CPU."""
    for dim in (-1, -2):
        n = x.shape[dim] - 1
        first, last = x.narrow(dim, 0, n), x.narrow(dim, 1, n)
        wide = x.clone()
        wide.narrow(dim, 0, n).copy_(torch.maximum(first, last))
        torch.maximum(wide.narrow(dim, 1, n), first, out=wide.narrow(dim, 1, n))
        x = wide
    return x
