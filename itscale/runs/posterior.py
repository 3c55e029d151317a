"""What a cell with a problem says of its truth: maps, fidelity, and whether its intervals hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itscale.operators import LinearOperator, PhaseRetrieval
from itscale.operators.metrics import best_of_symmetries, misfit, psnr, ssim
from itscale.operators.perceptual import find_lpips
from itscale.result import Result
from itscale.runs.problems import Measured

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities of central intervals."""
DIRECTIONS = 64
SHOWN = 3
"""Draws that a report shows."""


@dataclass(frozen=True)
class Posterior:
    """The weighted samples of all groups as one posterior, beside the truth.

    Attributes:
        mean, std: of pixels.
        draws: a few samples by weight.
        numbers: ``psnr`` of the mean and ``psnr_draw`` of a draw, ``ssim``, ``lpips`` of a draw (None where
            the library or its weights are missing), ``misfit``, ``width`` (mean of std), and ``coverage`` per
            level of ``LEVELS``.
    """

    mean: Tensor
    std: Tensor
    draws: Tensor
    numbers: dict[str, Any]


def posterior(result: Result, given: Measured) -> Posterior:
    """Describe a finished cell.

    Intervals are of 64 fixed random projections of the image, whose values do not tie as pixels at the edge
    of their range do. A sample that no weight is on counts for nothing; groups count equally.
    What magnitudes alone cannot tell, place and point reflection, is settled by the truth first.
    """
    x = result.samples.flatten(0, 1)
    w = (result.weights / result.groups).flatten()
    truth = given.truth[None]
    if isinstance(given.likelihood.operator, PhaseRetrieval):
        x = best_of_symmetries(x, truth, shift=True)
    column = w.to(x).reshape(-1, 1, 1, 1)
    mean = (column * x).sum(0)
    std = (column * (x - mean).square()).sum(0).clamp_min(0).sqrt()
    chosen = _spread_draws(w, max(SHOWN, 8))
    draws = x[chosen]
    fidelity = ssim(mean[None], truth) if min(truth.shape[-2:]) >= 11 else torch.full((1,), torch.nan)
    look = find_lpips()
    numbers = {
        "psnr": float(psnr(mean[None], truth)),
        "psnr_draw": float(psnr(draws, truth).mean()),
        "ssim": float(fidelity),
        "lpips": None if isinstance(look, str) else float(look(draws, truth).mean()),
        "misfit": float((w * misfit(x, given.likelihood)).sum()),
        "width": float(std.mean()),
        "coverage": dict(zip(map(str, LEVELS), coverage(x, w, given.truth), strict=True)),
    }
    return Posterior(mean, std, draws[:SHOWN], numbers)


def coverage(x: Tensor, w: Tensor, truth: Tensor) -> list[float]:
    """Shares of the projections whose central intervals hold the truth's, one per level."""
    generator = torch.Generator().manual_seed(5)
    a = torch.randn(DIRECTIONS, truth.numel(), generator=generator, dtype=torch.float64)
    seen, real = x.flatten(1).double() @ a.T, truth.flatten().double() @ a.T
    below = (w[:, None] * ((seen < real).double() + 0.5 * (seen == real).double())).sum(0)
    return [float(((below - 0.5).abs() <= level / 2).double().mean()) for level in LEVELS]


def save(folder: Path, key: str, found: Posterior, given: Measured) -> None:
    """Keep the maps for the report."""
    place = folder / "cells" / key
    place.mkdir(parents=True, exist_ok=True)
    y = given.likelihood.measurement
    np.savez_compressed(
        place / "posterior.npz",
        truth=given.truth.numpy(),
        measurement=y.float().numpy(),
        seen=_picture(given).numpy(),
        mean=found.mean.numpy(),
        std=found.std.numpy(),
        draws=found.draws.numpy(),
    )


def _picture(given: Measured) -> Tensor:
    """The measurement as a picture: what its pseudo-inverse makes of it, or itself."""
    operator, y = given.likelihood.operator, given.likelihood.stand_in.measurement
    if isinstance(operator, LinearOperator):
        return operator.pinv(y[None].float())[0]
    return y if y.ndim == 3 else y.reshape(1, 1, -1)


def _spread_draws(w: Tensor, count: int) -> Tensor:
    """Indices of systematic draws by weight."""
    edges = torch.cumsum(w, 0) / w.sum()
    points = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.searchsorted(edges, points).clamp_max(len(w) - 1)
