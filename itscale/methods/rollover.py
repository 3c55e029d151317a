"""Quotas of draws per level whose unused part rolls over to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


@dataclass(frozen=True)
class Rollover:
    """How many draws each chain may still make at its level.

    Attributes:
        quota: draws that a level brings.
        allowance: (g, n), draws allowed at the present level.
        used: (g, n), draws made there.
    """

    quota: int
    allowance: Int64[Tensor, "g n"]
    used: Int64[Tensor, "g n"]

    @classmethod
    def start(cls, shape: torch.Size, quota: int) -> Rollover:
        full = torch.full(shape, quota, dtype=torch.int64)
        return cls(quota, full, torch.zeros_like(full))

    @property
    def is_spent(self) -> Bool[Tensor, "g n"]:
        return self.used >= self.allowance

    def draw(self) -> Rollover:
        """Every chain has made a draw."""
        return replace(self, used=self.used + 1)

    def advance(self, moves: Bool[Tensor, "g n"], saved: Bool[Tensor, "g n"]) -> Rollover:
        """Chains that move on get a new quota; those that moved on early keep what they saved."""
        rest = torch.where(saved, (self.allowance - self.used).clamp_min(0), 0)
        return replace(
            self,
            allowance=torch.where(moves, rest + self.quota, self.allowance),
            used=torch.where(moves, 0, self.used),
        )
