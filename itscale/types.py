"""Tensor aliases with the project's fixed axis names, and the one broadcasting helper.

Axes: ``g`` groups, ``n`` particles, ``m`` selected or proposed particles, ``rows`` the flat ``g * n``
batch that a network sees, ``*event`` everything that belongs to one particle.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

State: TypeAlias = Shaped[Tensor, "rows *event"]
"""One row per particle, as the network sees it."""

Time: TypeAlias = Float[Tensor, "*rows"]
"""Shape ``()`` or ``(rows,)``, float64; 0 is noise, 1 is data."""

PerRow: TypeAlias = Float[Tensor, " rows"]
PerParticle: TypeAlias = Float64[Tensor, "g n"]
PerGroup: TypeAlias = Float64[Tensor, " g"]
Index: TypeAlias = Int64[Tensor, "g m"]


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Bring a small tensor of the host to where rows live, without waiting for what is under way there.

    A copy from pageable memory is staged before the call returns, so the host's tensor may go at once.
    """
    device = torch.device(device)
    # MPS reads the host's memory later, when a temporary tensor is gone
    return tensor.to(device, non_blocking=device.type not in ("cpu", "mps"))


def expand_over_event(factor: Tensor, like: Tensor) -> Tensor:
    """Shape a per-row (or scalar) factor so that it multiplies states of ``like``'s shape and dtype.

    Args:
        factor: shape ``()`` or ``(rows,)``.
        like: states ``(rows, *event)``; its dtype and device are taken over.
    """
    factor = sent(factor.to(dtype=like.dtype), like.device)
    if factor.ndim == 0:
        return factor
    return factor.reshape(-1, *(1,) * (like.ndim - 1))
