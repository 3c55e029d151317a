"""Small pictures straight from latents: a linear map, which costs no network."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from itscale.models.pipelines.decoding import decoded

FITTED_ON = 4
"""States that the map is fitted on."""

_MAPS: WeakKeyDictionary[Any, Tensor] = WeakKeyDictionary()


def preview(model: Any, x: Tensor) -> Tensor:
    """Images (rows, 3, h, w) in [0, 1] of the size of the latents.

    The map from channels to colours is the least-squares fit to the autoencoder's own pictures of the first
    states that it is asked for, so ask first for states that are denoised.
    """
    z = model.unpacked(x)
    if model.latents.vae is None:
        return ((z + 1) / 2).clamp(0, 1)
    key = model.latents.vae
    if key not in _MAPS:
        _MAPS[key] = fit(model, x[:FITTED_ON])
    colours = _MAPS[key].to(z)
    return ((_coloured(z, colours) + 1) / 2).clamp(0, 1)


def fit(model: Any, x: Tensor) -> Tensor:
    """The map (channels + 1, 3) whose pictures are nearest to the decoded ones, made as small."""
    z = model.unpacked(x)
    with torch.no_grad():
        pictures = torch.cat([decoded(model.latents, part) for part in z.split(model.decode_rows)])
    if z.ndim == 5:  # a video: its latent frames, beside evenly chosen frames of the decoded one
        chosen = torch.linspace(0, pictures.shape[2] - 1, z.shape[2]).round().long()
        pictures = pictures[:, :, chosen.to(pictures.device)].transpose(1, 2).flatten(0, 1)
        z = z.transpose(1, 2).flatten(0, 1)
    small = nn.functional.adaptive_avg_pool2d(pictures, z.shape[-2:])
    rows = z.movedim(1, -1).reshape(-1, z.shape[1]).double()
    rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    colours = small.movedim(1, -1).reshape(-1, small.shape[1]).double()
    ridge = 1e-6 * rows.square().mean() * torch.eye(rows.shape[1], dtype=torch.float64, device=rows.device)
    return torch.linalg.solve(rows.T @ rows / len(rows) + ridge, rows.T @ colours / len(rows)).float()


def _coloured(z: Tensor, colours: Tensor) -> Tensor:
    weights, offset = colours[:-1], colours[-1]
    made = torch.einsum("nc...,ck->nk...", z, weights)
    return made + offset.reshape(1, -1, *(1,) * (z.ndim - 2))
