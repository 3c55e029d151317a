"""As many positions at once as the model's uncertainty allows, and all at once when little is left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.decoders.base import (
    Decoder,
    EvenSteps,
    TokenKernel,
    TokenMove,
    Uniforms,
    event_count,
    needs_masks,
    needs_one_model,
    share_of,
)
from itscale.decoders.choosing import lowest
from itscale.decoders.ordering import entropy
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens
from itscale.process.tokens import TokenEvaluation, TokenProcess

CommitRule: TypeAlias = Literal["sample", "argmax", "gap"]


@dataclass(frozen=True, kw_only=True)
class EntropyBounded:
    """Reveal the surest positions while the sum of their entropies, less the largest, is at most a bound.

    That is at least the total correlation of what is drawn at once, and so bounds the divergence that one
    step adds. At least one position goes, or what few steps demand.

    Cost: a look a step, at most one per position. Target: the model, up to the bound.

    Attributes:
        bound: in nats; 0 reveals one position a step, and further ones that are certain.

    Reference:
        Ben-Hamu et al. (2025), "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded
        Unmasking", arXiv:2505.24857.
    """

    bound: float = 0.1

    def __post_init__(self) -> None:
        _check_bound(self.bound)

    @property
    def has_density(self) -> bool:
        return True

    @property
    def changes_law(self) -> bool:
        return False

    def build(self, process: TokenProcess, steps: int | None) -> BoundedKernel:
        needs_one_model(self, process)
        needs_masks(self, process)
        return BoundedKernel(event_count(process, steps), self.bound)


@dataclass(frozen=True)
class BoundedKernel(EvenSteps):
    steps: int
    bound: float

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        return TokenMove(drawn(at, self._chosen(at, level), u(at.x.shape[1])))

    def _chosen(self, at: TokenEvaluation, level: int) -> Bool[Tensor, "rows length"]:
        own = entropy(at.every[0])
        ordered = own.masked_fill(~at.is_masked, torch.inf).sort(dim=1, stable=True).values
        # sorted upwards, so the largest of the first k is the k-th: their sum without it is the sum before
        before = ordered.nan_to_num(posinf=0.0).cumsum(1) - ordered.nan_to_num(posinf=0.0)
        count = ((before <= self.bound) & ordered.isfinite()).sum(dim=1)
        return lowest(own, at.is_masked, torch.maximum(count, share_of(at.masks, level, self.steps)))

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        return log_prob_of(at, self._chosen(at, level), to)

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        return torch.zeros(len(to), dtype=torch.float64, device=to.device)


@dataclass(frozen=True, kw_only=True)
class EarlyCommit:
    """Decode as ``inner`` does, and fill all hidden positions at once when little is left open.

    ``rule="sample"`` draws them, each by itself, once the sum of their entropies less the largest is at most
    ``bound``: the law of samples is then off by at most ``sqrt(bound / 2)`` in total variation.
    ``rule="argmax"`` takes the likeliest tokens once the chances of all others sum to at most ``bound``,
    which bounds the total variation itself. Both bounds hold for a model with exact conditionals.
    ``rule="gap"`` is the published one: the mean gap of the two largest logits exceeds 7.5, 5 or 2.5 in the
    first, second and last third of the steps; no bound follows from it.

    Every sequence commits by itself, and needs no look afterwards.

    Cost: a look a step at most. Target: the model up to the bound; none with ``"gap"``.

    Attributes:
        inner: a decoder or its name.
        rule, bound: as above.
        gaps: thresholds of ``"gap"`` in the three thirds of the steps.
        answer: positions whose gaps count; None is all hidden ones.

    Reference:
        Li et al. (2025), "Diffusion Language Models Know the Answer Before Decoding", arXiv:2508.19982 (gap,
        "Prophet").
    """

    inner: str | Decoder = "confidence"
    rule: CommitRule = "sample"
    bound: float = 0.1
    gaps: tuple[float, float, float] = (7.5, 5.0, 2.5)
    answer: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.rule not in ("sample", "argmax", "gap"):
            raise ConfigError(f"rule must be 'sample', 'argmax' or 'gap', got {self.rule!r}")
        _check_bound(self.bound)
        if len(self.gaps) != 3:
            raise ConfigError(
                f"gaps must be three thresholds, for the thirds of the steps, got {self.gaps!r}"
            )
        self._inner()

    @property
    def has_density(self) -> bool:
        return self._inner().has_density

    @property
    def changes_law(self) -> bool:
        return self.rule != "sample" or self._inner().changes_law

    def _inner(self) -> Any:
        from itscale.decoders import get_decoder  # which is built on this file

        return get_decoder(self.inner)

    def build(self, process: TokenProcess, steps: int | None) -> CommittingKernel:
        needs_one_model(self, process)
        needs_masks(self, process)
        if self.answer is not None and any(not 0 <= i < process.length for i in self.answer):
            raise ConfigError(
                f"answer must hold positions from 0 to {process.length - 1}, got {self.answer!r}"
            )
        return CommittingKernel(
            self._inner().build(process, steps), self.rule, self.bound, self.gaps, self.answer
        )


@dataclass(frozen=True)
class CommittingKernel:
    inner: TokenKernel
    rule: CommitRule
    bound: float
    gaps: tuple[float, float, float]
    answer: tuple[int, ...] | None

    @property
    def steps(self) -> int:
        return self.inner.steps

    @property
    def times(self) -> Float64[Tensor, " levels"]:
        return self.inner.times

    def is_noisy(self, level: int) -> bool:
        return self.inner.is_noisy(level)

    def extra_looks(self, level: int) -> int:
        return self.inner.extra_looks(level)

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        length, asked = at.x.shape[1], []

        def inner_uniforms(count: int) -> Tensor:
            asked.append(u(count + length))
            return asked[0][:, :count]

        move = self.inner(at, level, inner_uniforms)
        commits = self.commits(at, level)[:, None]
        uniform = asked[0][:, -length:] if asked else u(length)
        filled = drawn(at, at.is_masked, uniform) if self.rule == "sample" else at.denoised
        ratio = None if move.log_ratio is None else move.log_ratio.masked_fill(commits[:, 0], 0.0)
        return TokenMove(torch.where(commits, filled, move.x), ratio, move.memo)

    def commits(self, at: TokenEvaluation, level: int) -> Bool[Tensor, " rows"]:
        """Which rows fill all their hidden positions now."""
        hidden = at.is_masked
        log_probs = at.every[0]
        if self.rule == "sample":
            own = torch.where(hidden, entropy(log_probs), 0.0)
            return own.sum(dim=1) - own.amax(dim=1) <= self.bound
        if self.rule == "argmax":
            miss = torch.where(hidden, 1 - log_probs.amax(dim=-1).exp(), 0.0)
            return miss.sum(dim=1) <= self.bound
        counted = hidden
        if self.answer is not None:
            counted = torch.zeros_like(hidden)
            counted[:, list(self.answer)] = True
        top = at.raw.double().topk(2, dim=-1).values
        gap = torch.where(counted, top[..., 0] - top[..., 1], 0.0).sum(dim=1) / counted.sum(dim=1).clamp(
            min=1
        )
        third = min(2, 3 * level // self.steps)
        return gap >= self.gaps[third]

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        if self.rule == "sample":
            filled = log_prob_of(at, at.is_masked, to)
        else:
            filled = torch.where((to == at.denoised).all(dim=1), 0.0, -torch.inf).double()
        return torch.where(self.commits(at, level), filled, self.inner.log_prob(at, level, to))

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        return self.inner.log_weight(at, level, to).masked_fill(self.commits(at, level), 0.0)


def drawn(
    at: TokenEvaluation, chosen: Bool[Tensor, "rows length"], uniform: Float64[Tensor, "rows length"]
) -> Int64[Tensor, "rows length"]:
    """Sequences with tokens drawn at chosen positions, each by itself."""
    row, column = chosen.nonzero(as_tuple=True)
    x = at.x.clone()
    x[row, column] = draw_tokens(at.log_probs((row, column))[0].clone(), uniform[row, column])
    return x


def log_prob_of(
    at: TokenEvaluation, chosen: Bool[Tensor, "rows length"], to: Int64[Tensor, "rows length"]
) -> Float64[Tensor, " rows"]:
    """Log-probability that ``drawn`` at these positions gives ``to``."""
    is_reached = torch.where(chosen, to < at.process.tokens.size, to == at.x).all(dim=1)
    found = torch.where(is_reached, 0.0, -torch.inf).double()
    row, column = chosen.nonzero(as_tuple=True)
    token = to[row, column].clamp(max=at.process.tokens.size - 1)
    return found.index_add(0, row, at.log_probs((row, column))[0].gather(-1, token[:, None])[:, 0])


def _check_bound(bound: float) -> None:
    if isinstance(bound, bool) or not 0 <= bound < float("inf"):
        raise ConfigError(f"bound must be finite and >= 0, got {bound!r}")
