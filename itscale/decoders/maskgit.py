"""MaskGIT: draw all tokens, keep those that came out likeliest."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.decoders.base import (
    EvenSteps,
    NoDensity,
    TokenMove,
    Uniforms,
    event_count,
    needs_masks,
    needs_one_model,
    share_of,
)
from itscale.decoders.choosing import lowest
from itscale.decoders.sharpening import PLAIN, Sharpening
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens
from itscale.process.tokens import TokenEvaluation, TokenProcess


@dataclass(frozen=True, kw_only=True)
class MaskGIT:
    """Draw a token at every hidden position, and keep those of the largest probability.

    A heuristic that sharpens: unlikely tokens are drawn and thrown away, so samples do not follow the model
    even with one position a step (on the exact model of the docs: entropy 1.56 nats of 4.45). ``Confidence``
    chooses positions before tokens, and is exact.

    Cost: a look a step. Target: none.

    Attributes:
        noise: of the choice: Gumbel noise times this, falling to 0 over the steps, on log-probabilities.
            Large noise makes the order random, and the sampler exact.
        sharpening: of the tokens' laws.

    Reference:
        Chang et al. (2022), "MaskGIT: Masked Generative Image Transformer", arXiv:2202.04200.
    """

    noise: float = 0.0
    sharpening: Sharpening = PLAIN

    def __post_init__(self) -> None:
        if isinstance(self.noise, bool) or not 0 <= self.noise < float("inf"):
            raise ConfigError(f"noise must be finite and >= 0, got {self.noise!r}")

    @property
    def has_density(self) -> bool:
        return False

    @property
    def changes_law(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> MaskGITKernel:
        needs_one_model(self, process)
        needs_masks(self, process)
        return MaskGITKernel(event_count(process, steps), self.noise, self.sharpening)


@dataclass(frozen=True)
class MaskGITKernel(EvenSteps, NoDensity):
    steps: int
    noise: float
    sharpening: Sharpening

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        length = at.x.shape[1]
        uniform = u(2 * length)
        row, column = at.is_masked.nonzero(as_tuple=True)
        law = self.sharpening(at.log_probs((row, column))[0])
        token = draw_tokens(law.clone(), uniform[row, column])
        keys = uniform.new_zeros(at.x.shape)
        gumbel = -(-uniform[row, length + column].clamp(min=1e-300).log()).log()
        scale = self.noise * (1 - (level + 1) / self.steps)
        keys[row, column] = -(law.gather(-1, token[:, None])[:, 0] + scale * gumbel)
        kept = lowest(keys, at.is_masked, share_of(at.masks, level, self.steps))
        drawn = at.x.clone()
        drawn[row, column] = token
        return TokenMove(torch.where(kept, drawn, at.x))
