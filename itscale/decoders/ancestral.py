"""Ancestral sampling on a time grid: every hidden position is revealed with the schedule's probability."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.decoders.base import TokenMove, Uniforms, free_end, needs_masks, nothing_hidden, uniform_levels
from itscale.decoders.events import check_correction
from itscale.decoders.sharpening import PLAIN, Sharpening
from itscale.process.categorical import draw_tokens, log_of
from itscale.process.tokens import TokenEvaluation, TokenProcess

DEFAULT_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class AncestralTokens:
    """Reveal every hidden position with probability ``rho = (a' - a) / (1 - a)``, then draw its token.

    Whether a position is revealed is drawn first, then the token, both in float64. Tokens of one step are
    drawn independently of each other: an error of order 1 / T. The last step reveals all that is hidden. A
    step that reveals nothing leaves the logits valid, so a row never costs more looks than it has positions
    (unless the network takes a time).

    On a composition a position of mass S stays hidden with probability ``(1 - rho) / (1 - rho + rho S)``, and
    the log-weight grows by ``sum log(1 - rho + rho S)``: exact for the step, whose only error is the same.

    Cost: at most a look a step. Target: as ``FirstHitting``, as steps are added.

    Attributes:
        sharpening, correct: as in ``FirstHitting``.

    Reference:
        Sahoo et al. (2024), arXiv:2406.07524, section 4.3; Shi et al. (2024), arXiv:2406.04329.
    """

    sharpening: Sharpening = PLAIN
    correct: bool = False

    def __post_init__(self) -> None:
        check_correction(self.sharpening, self.correct)

    @property
    def changes_law(self) -> bool:
        return not (self.sharpening.is_plain or self.correct)

    @property
    def has_density(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> AncestralKernel:
        needs_masks(self, process)
        if not int(process.hidden.max()):
            raise nothing_hidden()
        steps = DEFAULT_STEPS if steps is None else steps
        return AncestralKernel(steps, process.view.clean_shares(steps), self.sharpening, self.correct)


@dataclass(frozen=True)
class AncestralKernel:
    """Moves along clean shares a_0 = 0, ..., a_T = 1."""

    steps: int
    clean: Float64[Tensor, " levels"]
    sharpening: Sharpening
    correct: bool
    times: Float64[Tensor, " levels"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", uniform_levels(self.steps))

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def extra_looks(self, level: int) -> int:
        return free_end(level, self.steps)

    def revealed(self, level: int) -> float:
        """rho, the probability that a hidden position is revealed by the move from this level."""
        a, b = self.clean[level : level + 2].tolist()
        return 1.0 if level + 1 == self.steps else (b - a) / (1 - a)

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        length, rho = at.x.shape[1], self.revealed(level)
        uniform = u(2 * length)
        first, second = uniform[:, :length], uniform[:, length:]
        is_composed = at.process.powers is not None
        ratio = uniform.new_zeros(len(at.x))
        if is_composed:
            # the odds of being revealed depend on the mass: log of rho S against 1 - rho
            mass = at.every[1]
            total = torch.logaddexp(log_of(rho) + mass, torch.full_like(mass, log_of(1 - rho)))
            chance = (log_of(rho) + mass - total).exp()
            ratio = torch.where(at.is_masked, total, 0.0).sum(dim=1)
        else:
            chance = torch.full_like(first, rho)
        chosen = at.is_masked & (first < chance)
        row, column = chosen.nonzero(as_tuple=True)
        log_probs = at.every[0][row, column] if is_composed else at.log_probs((row, column))[0]
        law = self.sharpening(log_probs)
        token = draw_tokens(law.clone(), second[row, column])
        x = at.x.clone()
        x[row, column] = token
        if self.correct:
            ratio = ratio.index_add(0, row, (log_probs - law).gather(-1, token[:, None])[:, 0])
        return TokenMove(x, ratio if is_composed or self.correct else None)

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        rho, mass = self.revealed(level), at.every[1]
        total = torch.logaddexp(log_of(rho) + mass, torch.full_like(mass, log_of(1 - rho)))
        found = torch.where(at.is_masked, total, 0.0).sum(dim=1)
        if self.correct:
            row, column = (at.is_masked & (to != at.process.tokens.mask)).nonzero(as_tuple=True)
            log_probs = at.every[0][row, column]
            off = (log_probs - self.sharpening(log_probs)).gather(-1, to[row, column][:, None])[:, 0]
            found = found.index_add(0, row, off)
        return found

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        rho = self.revealed(level)
        mass = at.every[1]
        total = torch.logaddexp(log_of(rho) + mass, torch.full_like(mass, log_of(1 - rho)))
        chosen = at.is_masked & (to != at.process.tokens.mask)
        stays = torch.where(at.is_masked & ~chosen, log_of(1 - rho) - total, 0.0)
        found = stays.sum(dim=1).masked_fill(((to != at.x) & ~at.is_masked).any(dim=1), -torch.inf)
        row, column = chosen.nonzero(as_tuple=True)
        law = self.sharpening(at.every[0][row, column]).gather(-1, to[row, column][:, None])[:, 0]
        return found.index_add(0, row, law + (log_of(rho) + mass - total)[row, column])
