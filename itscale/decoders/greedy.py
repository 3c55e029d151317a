"""Decoders that take the likeliest tokens: searches for a likely sequence, not samplers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.decoders.base import (
    EvenSteps,
    NoDensity,
    TokenMove,
    Uniforms,
    event_count,
    needs_masks,
    needs_one_model,
    nothing_hidden,
    share_of,
)
from itscale.decoders.choosing import lowest
from itscale.errors import ConfigError
from itscale.process.tokens import TokenEvaluation, TokenProcess


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Take the likeliest token at the surest positions: a fixed number a step, or all above a threshold.

    Cost: a look a step at most. Target: none; it has no noise, so copies of a sequence never part.

    Attributes:
        threshold: reveal all positions whose likeliest token is at least so probable, and always one; None
            reveals even shares over the steps.

    Reference:
        Wu et al. (2025), "Fast-dLLM", arXiv:2505.22618 (threshold).
    """

    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold must be in [0, 1] or None, got {self.threshold!r}")

    @property
    def has_density(self) -> bool:
        return False

    @property
    def changes_law(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> GreedyKernel:
        needs_one_model(self, process)
        needs_masks(self, process)
        return GreedyKernel(event_count(process, steps), self.threshold)


@dataclass(frozen=True)
class GreedyKernel(EvenSteps, NoDensity):
    steps: int
    threshold: float | None

    def is_noisy(self, level: int) -> bool:
        return False

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        sure = at.every[0].amax(dim=-1).exp()
        count = share_of(at.masks, level, self.steps)
        if self.threshold is not None:
            count = torch.maximum(count, (at.is_masked & (sure >= self.threshold)).sum(dim=1))
        chosen = lowest(-sure, at.is_masked, count)
        return TokenMove(torch.where(chosen, at.denoised, at.x))


@dataclass(frozen=True, kw_only=True)
class Saber:
    """Reveal what is surer than what was revealed so far, and hide again what became less sure.

    A step reveals every position whose likeliest token is more probable than revealed ones were on average
    when they were, and at least ``least``; k is their number. Then, while anything is hidden, it hides
    ``min(max(least // 2, ceil(k / 8)), k - 1)`` revealed positions again: those whose confidence fell most
    since the step before. Given positions stay. What is hidden after the last step is filled.

    Cost: a look a step at most. Target: none; it has no noise. With exact conditionals a plain threshold
    (``Greedy``) finds likelier sequences in fewer looks; what it mends are a network's errors.

    Attributes:
        least: positions to reveal a step at least.
        confidence: of a revealed position: ``"top"``, the largest probability there (as published), or
            ``"committed"``, the probability of the token that stands there.

    Reference:
        Dong et al. (2025), "Saber: An Efficient Sampling with Adaptive Acceleration and Backtracking Enhanced
        Remasking for Diffusion Language Model", arXiv:2510.18165.
    """

    least: int = 2
    confidence: Literal["top", "committed"] = "top"

    def __post_init__(self) -> None:
        if isinstance(self.least, bool) or not isinstance(self.least, int) or self.least < 1:
            raise ConfigError(f"least must be a whole number >= 1, got {self.least!r}")
        if self.confidence not in ("top", "committed"):
            raise ConfigError(f"confidence must be 'top' or 'committed', got {self.confidence!r}")

    @property
    def has_density(self) -> bool:
        return False

    @property
    def changes_law(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> SaberKernel:
        needs_one_model(self, process)
        needs_masks(self, process)
        most = int(process.hidden.max())
        if not most:
            raise nothing_hidden()
        return SaberKernel(2 * most if steps is None else steps, self.least, self.confidence)


@dataclass(frozen=True)
class SaberKernel(EvenSteps, NoDensity):
    """Remembers confidences of the step before (NaN where given), and their sum and number at reveals."""

    steps: int
    least: int
    confidence: str

    def first_memo(self, x: Tensor, hidden: Tensor, u: Uniforms) -> Float64[Tensor, "rows memo"]:
        start = torch.where(hidden, 0.0, torch.nan).double()
        return torch.cat([start, start.new_zeros(len(x), 2)], dim=1)

    def is_noisy(self, level: int) -> bool:
        return False

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        assert at.memo is not None
        length = at.x.shape[1]
        before, total, number = at.memo[:, :length], at.memo[:, length], at.memo[:, length + 1]
        hidden, is_given = at.is_masked, before.isnan()
        laws = torch.log_softmax(at.raw.double(), dim=-1)
        sure = laws.amax(dim=-1).exp()
        if self.confidence == "committed":
            token = torch.where(hidden, at.denoised, at.x)
            sure = laws.gather(-1, token[..., None])[..., 0].exp()
        bar = torch.where(number > 0, total / number.clamp(min=1), 1.0)
        above = (hidden & (sure > bar[:, None])).sum(dim=1)
        count = torch.maximum(above, torch.full_like(above, self.least))
        if level + 1 == self.steps:
            count = at.masks
        revealed = lowest(-sure, hidden, count)
        x = torch.where(revealed, at.denoised, at.x)
        k = revealed.sum(dim=1)
        left = at.masks - k
        again = torch.minimum(torch.maximum(-(-k // 8), torch.full_like(k, self.least // 2)), k - 1).clamp(
            min=0
        )
        again = torch.where(left > 0, again, 0)
        # a complete row has not been looked at, and stays
        fell = lowest(sure - before.nan_to_num(), ~at.process.tokens.hides(x) & ~is_given, again)
        x = x.masked_fill(fell, at.process.tokens.mask)
        gained = torch.where(revealed, sure, 0.0).sum(dim=1)
        now = torch.where(is_given, torch.nan, sure)
        return TokenMove(x, memo=torch.cat([now, (total + gained)[:, None], (number + k)[:, None]], dim=1))
