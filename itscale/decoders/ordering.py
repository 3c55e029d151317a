"""How sure a model is of the token at a hidden position."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.process.tokens import TokenEvaluation

Rule: TypeAlias = Literal["confidence", "entropy", "margin"]
RULES = ("confidence", "entropy", "margin")


def certainty(at: TokenEvaluation, rule: str) -> Float64[Tensor, "rows length"]:
    """Larger is surer: the largest probability, minus the entropy, or the gap of the two largest.

    Visible positions hold the most there is.
    """
    log_probs = at.every[0]
    if rule == "confidence":
        return log_probs.amax(dim=-1).exp()
    if rule == "entropy":
        return -entropy(log_probs)
    if log_probs.shape[-1] == 1:
        return torch.ones_like(log_probs[..., 0])
    top = log_probs.topk(2, dim=-1).values.exp()
    return top[..., 0] - top[..., 1]


def entropy(log_probs: Float64[Tensor, "*rows v"]) -> Float64[Tensor, "*rows"]:
    """Entropy in nats."""
    return -(log_probs.exp() * log_probs.clamp(min=-1e3)).sum(dim=-1)
