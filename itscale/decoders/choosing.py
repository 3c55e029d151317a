"""Choosing positions by a key."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def lowest(
    keys: Tensor, among: Bool[Tensor, "rows length"], count: Int64[Tensor, " rows"]
) -> Bool[Tensor, "rows length"]:
    """The ``count`` positions of lowest key per row among some; ties go to the first."""
    order = keys.masked_fill(~among, torch.inf).argsort(dim=1, stable=True)
    places = torch.arange(keys.shape[1], device=keys.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return among & (rank < count[:, None])
