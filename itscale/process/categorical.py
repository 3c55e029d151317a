"""Exact draws of tokens: float64 sums against 53-bit uniforms.

A Gumbel shortcut in float32 is not: its uniforms are multiples of 2^-24, so rare tokens are never drawn and
the rest is sharpened, as if at a temperature below 1 (Zheng et al. 2024, arXiv:2409.02908).
"""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def draw_tokens(
    log_weights: Float64[Tensor, "*rows v"], u: Float64[Tensor, "*rows"]
) -> Int64[Tensor, "*rows"]:
    """Draw from the law proportional to ``exp(log_weights)`` by its inverse distribution function.

    A token of weight 0 is never drawn. Rows must have a positive weight.

    Args:
        u: uniforms in [0, 1).
    """
    edges = (log_weights - log_weights.amax(dim=-1, keepdim=True)).exp_().cumsum_(-1)
    total = edges[..., -1:]
    # below the total even where the product rounds up to it, so that the edge found has a weight of its own
    target = torch.minimum(u[..., None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(edges, target, right=True)[..., 0]


def log_of(probability: float) -> float:
    """The logarithm, with log 0 = -inf."""
    return float(torch.tensor(probability, dtype=torch.float64).log())
