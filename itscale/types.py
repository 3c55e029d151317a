"""Tensor aliases with the project's fixed axis names, and the one broadcasting helper.

Axes: ``g`` groups, ``n`` particles, ``m`` selected or proposed particles, ``rows`` the flat ``g * n``
batch that a network sees, ``*event`` everything that belongs to one particle.
"""

from __future__ import annotations

from typing import TypeAlias

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


def expand_over_event(factor: Tensor, like: Tensor) -> Tensor:
    """Shape a per-row (or scalar) factor so that it multiplies states of ``like``'s shape and dtype.

    Args:
        factor: shape ``()`` or ``(rows,)``.
        like: states ``(rows, *event)``; its dtype and device are taken over.
    """
    factor = factor.to(dtype=like.dtype, device=like.device)
    if factor.ndim == 0:
        return factor
    return factor.reshape(-1, *(1,) * (like.ndim - 1))
