"""The reward that counts as much as several uncertain ones."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor


def certainty_equivalent(
    rewards: Float64[Tensor, "rows draws"], valid: Bool[Tensor, "rows draws"], tilt: float
) -> Float64[Tensor, " rows"]:
    """Return ``log(mean of exp(tilt r)) / tilt`` over the valid draws: their mean where the tilt is 0.

    Rows without a valid draw give NaN. Exact to rounding for any tilt, however small or sharp.
    """
    counted = valid.sum(dim=1)
    if tilt == 0:
        return torch.where(valid, rewards, 0.0).sum(dim=1) / counted
    high = torch.where(valid, rewards, -torch.inf).amax(dim=1)
    below = torch.where(valid & (high > -torch.inf)[:, None], rewards - high[:, None], 0.0)
    return high + torch.log1p(torch.expm1(tilt * below).sum(dim=1) / counted) / tilt
