"""Where roll-outs may branch off, what that costs, and how a budget is spent on them to the last unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from itscale.methods.rollout_tree import ROOT


@dataclass(frozen=True)
class Layout:
    """The levels at which a tree may branch, and the prices of roll-outs.

    Attributes:
        levels: of the nodes that may have several children, ascending; the root comes before them.
        costs: NFE of a roll-out from the root, and from a node of each of these levels; each is positive and
            smaller than the one before.
        last: level at which roll-outs end: what follows is the jump to the denoised sample.
        payable: whether roll-outs can spend exactly an amount, from 0 on; after its end they can spend every
            multiple of the common divisor of the costs.
    """

    levels: tuple[int, ...]
    costs: tuple[int, ...]
    last: int
    payable: tuple[bool, ...]

    @classmethod
    def of(cls, noisy: Sequence[bool], extra_looks: Sequence[int], every: int = 1) -> Layout:
        """Take every so many of the levels with a noisy move: without noise all children are alike."""
        last = len(noisy) - 1

        def cost(k: int) -> int:
            return last - k + sum(extra_looks[max(k, 0) : last])

        levels = tuple(k for k in range(last) if noisy[k] and cost(k) > 0)[::every]
        costs = tuple(cost(k) for k in (ROOT, *levels))
        payable, unit = [True], math.gcd(*costs)
        for amount in range(1, costs[0] * costs[-1]):  # beyond, all multiples can be spent (Brauer 1942)
            payable.append(any(amount >= cost and payable[amount - cost] for cost in costs))
        while payable and payable[-1] == ((len(payable) - 1) % unit == 0):
            payable.pop()
        return cls(levels, costs, last, tuple(payable))

    @property
    def slack(self) -> int:
        """From here on every multiple of the common divisor can be spent."""
        return len(self.payable)

    def place(self, level: int) -> int | None:
        """Number of a level among those where states are kept: where the tree may branch, and the last."""
        if level == self.last:
            return len(self.levels)
        return self.levels.index(level) if level in self.levels else None

    def can_spend(self, amount: Int64[Tensor, "*axes"]) -> Bool[Tensor, "*axes"]:
        """Whether roll-outs can spend an amount to the last unit; no for negative amounts."""
        known = torch.tensor((*self.payable, False))[amount.clamp(0, self.slack)]
        known = torch.where(amount >= self.slack, amount % math.gcd(*self.costs) == 0, known)
        return known & (amount >= 0)

    def largest(self, limit: int) -> int:
        """The largest amount up to ``limit``, which pays for one trajectory, that can be spent."""
        amounts = torch.arange(limit - self.costs[0], limit + 1)
        return int(amounts[self.can_spend(amounts)][-1])

    def allowed(
        self, left: Int64[Tensor, " g"], calls: Int64[Tensor, " g"], walkers: int
    ) -> Bool[Tensor, "g W places"]:
        """Where walkers may branch off (root, levels) with so many NFE and roll-outs left.

        As many walkers set out as could all go to the root. When not even one could, one goes where what it
        leaves over can be spent. Those that rest may go nowhere.
        """
        free = (left - self.slack).div(self.costs[0], rounding_mode="floor").clamp(0, walkers)
        order = torch.arange(walkers)
        goes_anywhere = order < torch.minimum(free, calls)[:, None]
        fits = self.can_spend(left[:, None] - torch.tensor(self.costs))
        goes_on = (order == 0) & ((free == 0) & (calls > 0))[:, None]
        return goes_anywhere[..., None] | (goes_on[..., None] & fits[:, None])
