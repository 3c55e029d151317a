"""Temperature, top-k and nucleus: other laws of a token than the model's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Sharpening:
    """What is done to the law of a token before one is drawn, in this order.

    Attributes:
        temperature: divides log-probabilities; 1 changes nothing, below 1 sharpens.
        top_k: keep so many tokens, the likeliest; None keeps all.
        top_p: keep the fewest likeliest tokens whose probabilities sum to this ("nucleus"); None keeps all.

    Reference:
        Holtzman et al. (2020), "The Curious Case of Neural Text Degeneration", arXiv:1904.09751 (top_p).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.temperature, bool) or not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature must be finite and > 0, got {self.temperature!r}")
        if self.top_k is not None and (isinstance(self.top_k, bool) or self.top_k < 1):
            raise ConfigError(f"top_k must be a whole number >= 1 or None, got {self.top_k!r}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be in (0, 1] or None, got {self.top_p!r}")

    @property
    def is_plain(self) -> bool:
        return self.temperature == 1 and self.top_k is None and self.top_p in (None, 1.0)

    @property
    def cuts(self) -> bool:
        """Whether tokens that the model allows are left out."""
        return self.top_k is not None or self.top_p not in (None, 1.0)

    def __call__(self, log_probs: Float64[Tensor, "*rows v"]) -> Float64[Tensor, "*rows v"]:
        """Return log-probabilities of the law that tokens are drawn from."""
        if self.is_plain:
            return log_probs
        law = log_probs / self.temperature
        if self.cuts:
            ordered, order = law.sort(dim=-1, descending=True, stable=True)
            share = torch.softmax(ordered, dim=-1)
            drop = torch.zeros_like(ordered, dtype=torch.bool)
            if self.top_k is not None:
                drop[..., self.top_k :] = True
            if self.top_p is not None:
                drop |= share.cumsum(-1) - share >= self.top_p  # the token that reaches the sum stays
            law = law.masked_fill(drop.gather(-1, order.argsort(-1)), -torch.inf)
        return torch.log_softmax(law, dim=-1)


PLAIN = Sharpening()
