"""Budgets of draws per level whose unused part rolls over to the next, for chains and for populations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.particles import effective_sample_size


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


@dataclass(frozen=True)
class Saving:
    """Rollover for a population: few particles where weights are even, and what is saved is kept for later.

    Each level brings a quota of N particles. With S the effective sample size of the present weights over
    their number, the next level gets ``N (least + (most - least) (1 - S))`` particles, as far as what was
    saved allows; the last level gets all that is left. The number is known before the moves that it pays
    for, so the evidence stays unbiased, which drawing until something improves would not. It is unbiased and
    no more: at equal cost it was measured to lose to equal numbers, since uneven weights tell too late where
    particles would have helped, and what is spent early is missing at the end.

    Attributes:
        least, most: share of the quota where weights are even, and where one particle has them all.
    """

    least: float = 0.5
    most: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1 <= self.most:
            raise ConfigError(
                f"a rollover needs 0 < least <= 1 <= most shares of the quota, got {self.least!r} and "
                f"{self.most!r}"
            )

    def ahead(
        self, sizes: tuple[int, ...], log_weights: Float64[Tensor, "1 n"], steps: int, fewest: int
    ) -> int:
        """Number of particles at the next look.

        Args:
            sizes: numbers at the looks so far; the first is the quota.
            log_weights: before the move to the next look.
            steps: looks in all, which ``sizes[0] * steps`` particles share.
            fewest: particles at any look.
        """
        quota, after = sizes[0], steps - len(sizes) - 1
        allowance = quota * (len(sizes) + 1) - sum(sizes)
        if not after:
            return allowance
        evenness = float(effective_sample_size(log_weights)) / log_weights.shape[-1]
        wanted = math.ceil(quota * (self.least + (self.most - self.least) * (1 - evenness)))
        return max(fewest, min(wanted, allowance))
