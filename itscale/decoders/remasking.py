"""Remasking: tokens that were revealed may be hidden again, at the same marginals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.decoders.ancestral import DEFAULT_STEPS
from itscale.decoders.base import (
    EvenSteps,
    TokenMove,
    Uniforms,
    needs_masks,
    needs_one_model,
    nothing_hidden,
    uniform_levels,
)
from itscale.decoders.sharpening import PLAIN, Sharpening
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens, log_of
from itscale.process.tokens import TokenEvaluation, TokenProcess

Strategy: TypeAlias = Literal["cap", "rescale", "confidence", "loop", "forward-backward"]
STRATEGIES = ("cap", "rescale", "confidence", "loop", "forward-backward")


@dataclass(frozen=True, kw_only=True)
class ReMDM:
    """Ancestral sampling in which a revealed token is hidden again with probability sigma.

    A hidden position is revealed with probability ``(a' - (1 - sigma) a) / (1 - a)`` in turn, so that as many
    tokens are clean at every level as without remasking, for one sigma up to ``min(1, (1 - a') / a)``. Errors
    of a network can be mended so, in extra steps; with exact conditionals remasking gains nothing. Given
    positions stay.

    Cost: a look a step at most. Target: the model, as steps are added.

    Attributes:
        strategy: of sigma: ``"cap"`` is ``min(eta, most)``, ``"rescale"`` ``eta most``, ``"confidence"`` most
            times a softmax over positions of minus the probability they were revealed with, ``"loop"`` runs
            plainly up to a clean share ``hold``, holds it with sigma = eta, and goes on plainly;
            ``"forward-backward"`` is ``eta (a' - a) / a``, at most the most: a noising step after each.
        eta: as above.
        hold: clean share that a loop holds.
        window: noise times between which a loop holds it, of the steps from 1 to 0.
        sharpening: of the tokens' laws; it changes the law of samples.

    Reference:
        Wang et al. (2025), "Remasking Discrete Diffusion Models with Inference-Time Scaling",
        arXiv:2503.00307.
    """

    strategy: Strategy = "rescale"
    eta: float = 0.02
    hold: float = 0.9
    window: tuple[float, float] = (0.55, 0.05)
    sharpening: Sharpening = PLAIN

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ConfigError(f"strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if isinstance(self.eta, bool) or not 0 <= self.eta <= 1:
            raise ConfigError(f"eta must be in [0, 1], got {self.eta!r}")
        if not 0 < self.hold < 1:
            raise ConfigError(f"hold must be in (0, 1), got {self.hold!r}")
        if not 1 >= self.window[0] > self.window[1] >= 0:
            raise ConfigError(
                f"window must be (from, to) noise times, 1 >= from > to >= 0, got {self.window!r}"
            )

    @property
    def changes_law(self) -> bool:
        return not self.sharpening.is_plain

    @property
    def has_density(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> RemaskingKernel:
        needs_one_model(self, process)
        needs_masks(self, process)
        if not int(process.hidden.max()):
            raise nothing_hidden()
        steps = DEFAULT_STEPS if steps is None else steps
        clean = process.view.clean_shares(steps)
        if self.strategy == "loop":
            clean = self._looping(steps)
        return RemaskingKernel(steps, clean, self.strategy, self.eta, self.sharpening)

    def _looping(self, steps: int) -> Float64[Tensor, " levels"]:
        """Clean shares that rise to ``hold``, stay, and rise to 1."""
        noise_time = 1 - uniform_levels(steps)
        on, off = self.window
        rise = self.hold * (1 - noise_time) / (1 - on) if on < 1 else torch.full_like(noise_time, self.hold)
        end = 1 - (1 - self.hold) * noise_time / off if off > 0 else torch.full_like(noise_time, self.hold)
        clean = torch.where(noise_time >= on, rise, torch.where(noise_time <= off, end, self.hold))
        clean[0], clean[-1] = 0.0, 1.0
        return clean


@dataclass(frozen=True)
class RemaskingKernel(EvenSteps):
    """Remembers, per position, the probability it was revealed with; infinity where it was given."""

    steps: int
    clean: Float64[Tensor, " levels"]
    strategy: Strategy
    eta: float
    sharpening: Sharpening

    def first_memo(self, x: Tensor, hidden: Tensor, u: Uniforms) -> Float64[Tensor, "rows memo"]:
        return torch.where(hidden, 0.0, torch.inf).double()

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def common_sigma(self, level: int) -> float:
        """Sigma where it is one number; with ``"confidence"`` that of hidden positions, 0."""
        a, b = self.clean[level : level + 2].tolist()
        most = 1.0 if a == 0 else min(1.0, (1 - b) / a)
        if self.strategy == "rescale":
            return self.eta * most
        if self.strategy == "cap":
            return min(self.eta, most)
        if self.strategy == "forward-backward":
            return most if a == 0 else min(most, self.eta * (b - a) / a)
        return min(self.eta, most) if self.strategy == "loop" and b == a else 0.0

    def sigma(self, at: TokenEvaluation, level: int) -> Float64[Tensor, "rows length"]:
        """Probability of being hidden again, at visible positions that were not given."""
        assert at.memo is not None
        may = ~at.is_masked & at.memo.isfinite()
        if self.strategy != "confidence":
            return self.common_sigma(level) * may.double()
        a, b = self.clean[level : level + 2].tolist()
        most = 1.0 if a == 0 else min(1.0, (1 - b) / a)
        odds = torch.where(may, -at.memo, -torch.inf)
        share = torch.softmax(torch.where(may.any(1, keepdim=True), odds, 0.0), dim=1)
        return torch.where(may, most * share, 0.0)

    def revealed(self, level: int) -> float:
        """Probability that a hidden position is revealed."""
        a, b = self.clean[level : level + 2].tolist()
        if level + 1 == self.steps:
            return 1.0
        return min(1.0, max(0.0, (b - (1 - self.common_sigma(level)) * a) / (1 - a)))

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        assert at.memo is not None
        length = at.x.shape[1]
        uniform = u(2 * length)
        first, second = uniform[:, :length], uniform[:, length:]
        sigma = self.sigma(at, level)
        hides = ~at.is_masked & (first < sigma)
        chosen = at.is_masked & (first < self.revealed(level))
        row, column = chosen.nonzero(as_tuple=True)
        law = self.sharpening(at.log_probs((row, column))[0])
        token = draw_tokens(law.clone(), second[row, column])
        x = at.x.masked_fill(hides, at.process.tokens.mask)
        x[row, column] = token
        memo = at.memo.masked_fill(hides, 0.0)
        memo[row, column] = law.gather(-1, token[:, None])[:, 0].exp()
        return TokenMove(x, memo=memo)

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        sigma, hidden = self.sigma(at, level), at.is_masked
        chance = self.revealed(level)
        is_mask = to == at.process.tokens.mask
        stays = torch.where(is_mask, sigma.log(), torch.log1p(-sigma))
        stays = torch.where(~is_mask & (to != at.x), -torch.inf, stays)
        moves = torch.full_like(stays, log_of(chance)).masked_fill(is_mask, log_of(1 - chance))
        found = torch.where(hidden, moves, stays).sum(dim=1)
        row, column = (hidden & ~is_mask).nonzero(as_tuple=True)
        law = self.sharpening(at.log_probs((row, column))[0])
        return found.index_add(0, row, law.gather(-1, to[row, column][:, None])[:, 0])

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        return torch.zeros(len(to), dtype=torch.float64, device=to.device)
