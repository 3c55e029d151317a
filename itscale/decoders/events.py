"""One position at a time: the exact sampler of a masked model, in a random order or in one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.decoders.base import (
    EvenSteps,
    TokenMove,
    Uniforms,
    event_count,
    needs_masks,
    quotas,
    share_of,
)
from itscale.decoders.choosing import lowest
from itscale.decoders.ordering import RULES, Rule, certainty
from itscale.decoders.sharpening import PLAIN, Sharpening
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens
from itscale.process.masking import Masking
from itscale.process.tokens import TokenEvaluation, TokenProcess


@dataclass(frozen=True, kw_only=True)
class FirstHitting:
    """Reveal positions in a random order, one a step, or as even shares of fewer steps.

    With ``steps=None`` there is one step per hidden position, and samples follow the model exactly: there is
    no time grid to be coarse. With fewer steps the tokens of one step are drawn independently of each other,
    which is the only error. On a composition a position is drawn by the factor f and its mass S goes to the
    weight, so that weighted samples follow the composition, and weights have its normaliser as their mean.

    Cost: a look a step. Target: the model; the composition, with weights.

    Attributes:
        order: ``"random"``, or ``"adapted"``: positions in proportion to their mass S, whose weights vary
            less on a composition; on a model it is the same.
        sharpening: of the tokens' laws; it changes the law of samples unless ``correct``.
        correct: weight by log p - log q of what the sharpening does. It must keep every token then.
        times: what networks that take a time are told: ``"even"``, the share of visible positions, or
            ``"random"``, the time at which the next position is revealed in the continuous process, drawn for
            every sequence. For a network whose laws change with time the latter follows it as ``ancestral``
            does with many steps; others are told nothing.

    Reference:
        Zheng et al. (2024), "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit
        Inaccurate Categorical Sampling", arXiv:2409.02908 (the sampler); Hasan et al. (2026), "Discrete
        Feynman-Kac Correctors", arXiv:2601.10403 (compositions, there in continuous time).
    """

    order: Literal["random", "adapted"] = "random"
    sharpening: Sharpening = PLAIN
    correct: bool = False
    times: Literal["even", "random"] = "even"

    def __post_init__(self) -> None:
        if self.times not in ("even", "random"):
            raise ConfigError(f"times must be 'even' or 'random', got {self.times!r}")
        if self.order not in ("random", "adapted"):
            raise ConfigError(
                f"order must be 'random' or 'adapted', got {self.order!r}; see solver='confidence'"
            )
        check_correction(self.sharpening, self.correct)

    @property
    def changes_law(self) -> bool:
        return not (self.sharpening.is_plain or self.correct)

    @property
    def has_density(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> EventKernel:
        needs_masks(self, process)
        count = event_count(process, steps)
        order = self.order if process.powers is not None else "random"
        if order == "adapted" and count < int(process.hidden.max()):
            raise ConfigError(
                "order='adapted' reveals one position a step: use steps=None, or order='random'"
            )
        return EventKernel(
            count,
            tuple(quotas(process.hidden, count)),
            order,
            self.sharpening,
            self.correct,
            process.view if self.times == "random" and process.takes_time else None,
        )


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Reveal the position that the model is surest of, and draw its token.

    The position depends on the visible tokens alone, and the token is drawn, so samples follow the model
    exactly with one position a step, as they do in any other order; a network's errors may be smaller in this
    one. With fewer steps the surest positions go together.

    Cost: a look a step. Target: as ``FirstHitting``.

    Attributes:
        rule: sure by ``"confidence"`` (largest probability), ``"entropy"`` or ``"margin"`` (of the two
            largest).
        sharpening, correct: as in ``FirstHitting``.
    """

    rule: Rule = "confidence"
    sharpening: Sharpening = PLAIN
    correct: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        check_correction(self.sharpening, self.correct)

    @property
    def changes_law(self) -> bool:
        return not (self.sharpening.is_plain or self.correct)

    @property
    def has_density(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> EventKernel:
        needs_masks(self, process)
        count = event_count(process, steps)
        return EventKernel(
            count, tuple(quotas(process.hidden, count)), self.rule, self.sharpening, self.correct
        )


def check_correction(sharpening: Sharpening, correct: bool) -> None:
    """Raise ConfigError where a weight would have to make up for tokens that are never drawn."""
    if correct and sharpening.cuts:
        raise ConfigError(
            "correct=True weights tokens by p / q, and top_k or top_p leaves some out for good; use a "
            "temperature alone"
        )


@dataclass(frozen=True)
class EventKernel(EvenSteps):
    """Reveals some positions of every row, chosen by an order, with tokens drawn independently."""

    steps: int
    most: tuple[int, ...]  # positions a row reveals at each level, at most
    order: str
    sharpening: Sharpening
    correct: bool
    clock: Masking | None = None  # of rows that are revealed at random times; their memo is the clean share

    def first_memo(self, x: Tensor, hidden: Tensor, u: Uniforms) -> Float64[Tensor, "rows one"] | None:
        """The clean share when the first positions of a row are revealed."""
        if self.clock is None:
            return None
        masks = hidden.sum(dim=1)
        return self._next_share(x.new_zeros(len(x), dtype=torch.float64), masks, 0, u(x.shape[1]))[:, None]

    def row_times(self, memo: Tensor | None) -> Float64[Tensor, " rows"] | None:
        """What the network is told of every row; None is the time of the level."""
        return None if self.clock is None or memo is None else self.clock.times_of(memo[:, 0].cpu())

    def _next_share(self, share: Tensor, masks: Tensor, level: int, uniform: Tensor) -> Tensor:
        """The clean share when a row's next positions are revealed: that of the last of them.

        The first of n positions still hidden at a share a is revealed at ``1 - (1 - a) u^(1/n)``.
        """
        due = share_of(masks, level, self.steps)
        rank = torch.arange(uniform.shape[1], device=uniform.device)
        left = (masks[:, None] - rank).clamp(min=1)
        gone = torch.where(rank < due[:, None], (1 - uniform).log() / left, 0.0).sum(dim=1)
        return 1 - (1 - share) * gone.exp()

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        # how many uniforms depends on the level alone, so that a row's do not depend on its batch
        is_single = self.most[level] == 1
        length = at.x.shape[1]
        count = 2 if is_single else 2 * length
        uniform = u(count + (length if self.clock is not None else 0))
        chosen, ratio = self._choose(at, level, uniform)
        row, column = chosen.nonzero(as_tuple=True)
        log_probs, mass = at.log_probs((row, column))
        law = self.sharpening(log_probs)
        token = draw_tokens(law.clone(), uniform[row, 1] if is_single else uniform[row, length + column])
        x = at.x.clone()
        x[row, column] = token
        is_weighted = at.process.powers is not None or self.correct
        memo = None
        if self.clock is not None and at.memo is not None:
            left = at.masks - chosen.sum(dim=1)
            memo = self._next_share(at.memo[:, 0], left, level + 1, uniform[:, count:])[:, None]
        return TokenMove(
            x, self._weighed(len(x), row, token, log_probs, law, mass, ratio) if is_weighted else None, memo
        )

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        row, column = (at.is_masked & (to != at.process.tokens.mask)).nonzero(as_tuple=True)
        log_probs, mass = at.log_probs((row, column))
        law, ratio = self.sharpening(log_probs), None
        if self.order == "adapted":
            ratio = self._mean_mass(at)
        return self._weighed(len(to), row, to[row, column], log_probs, law, mass, ratio)

    def _weighed(
        self,
        rows: int,
        row: Tensor,
        token: Tensor,
        log_probs: Tensor,
        law: Tensor,
        mass: Tensor,
        mean_mass: Tensor | None,
    ) -> Float64[Tensor, " rows"]:
        """What positions that were revealed add to the log-weights of their rows."""
        gain = mass if mean_mass is None else torch.zeros_like(mass)
        if self.correct:
            gain = gain + (log_probs - law).gather(-1, token[:, None])[:, 0]
        total = gain.new_zeros(rows).index_add_(0, row, gain)
        return total if mean_mass is None else total + mean_mass

    def _mean_mass(self, at: TokenEvaluation) -> Float64[Tensor, " rows"]:
        """Log of the mean of S over hidden positions."""
        mass = at.every[1].masked_fill(~at.is_masked, -torch.inf)
        mean = torch.logsumexp(mass, dim=1) - at.masks.clamp(min=1).double().log()
        return torch.where(at.masks > 0, mean, 0.0)

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        chosen = (to != at.x) & at.is_masked
        kept = ((to == at.x) | at.is_masked).all(dim=1) & ~(chosen & (to == at.process.tokens.mask)).any(
            dim=1
        )
        quota = share_of(at.masks, level, self.steps)
        found = torch.where(kept & (chosen.sum(dim=1) == quota), 0.0, -torch.inf).double().to(to.device)
        row, column = chosen.nonzero(as_tuple=True)
        law = self.sharpening(at.log_probs((row, column))[0])
        found = found.index_add(0, row, law.gather(-1, to[row, column][:, None])[:, 0])
        return found + self._log_order(at, chosen, quota)

    def _choose(
        self, at: TokenEvaluation, level: int, uniform: Tensor
    ) -> tuple[Tensor, Float64[Tensor, " rows"] | None]:
        """Positions to reveal, and what the choice adds to the log-weight."""
        hidden, masks = at.is_masked, at.masks
        if self.order == "adapted":
            mass = at.every[1].masked_fill(~hidden, -torch.inf)
            is_open = masks > 0
            place = draw_tokens(torch.where(is_open[:, None], mass, 0.0), uniform[:, 0])
            chosen = torch.zeros_like(hidden).scatter_(1, place[:, None], is_open[:, None])
            return chosen, self._mean_mass(at)
        quota = share_of(masks, level, self.steps)
        if self.order == "random" and self.most[level] == 1:
            nth = (uniform[:, 0] * masks).long() + 1  # below masks + 1, since uniforms are below 1
            return hidden & (hidden.cumsum(1) == nth[:, None]), None
        keys = uniform[:, : hidden.shape[1]] if self.order == "random" else -certainty(at, self.order)
        return lowest(keys, hidden, quota), None

    def _log_order(self, at: TokenEvaluation, chosen: Tensor, quota: Tensor) -> Float64[Tensor, " rows"]:
        """Log-probability that these are the positions."""
        if self.order == "adapted":
            mass = at.every[1].masked_fill(~at.is_masked, -torch.inf)
            odds = torch.where(chosen, mass, 0.0).sum(dim=1) - torch.logsumexp(mass, dim=1)
            return torch.where(at.masks > 0, odds, 0.0)
        if self.order == "random":
            n, k = at.masks.double(), quota.double()
            return torch.lgamma(k + 1) + torch.lgamma(n - k + 1) - torch.lgamma(n + 1)
        due = lowest(-certainty(at, self.order), at.is_masked, quota)
        return torch.where((due == chosen).all(dim=1), 0.0, -torch.inf).double()
