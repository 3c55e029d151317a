"""Models trained on uniform noise: every token may still be another one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.decoders.ancestral import DEFAULT_STEPS
from itscale.decoders.base import (
    TokenMove,
    Uniforms,
    free_end,
    needs_one_model,
    nothing_hidden,
    uniform_levels,
)
from itscale.decoders.sharpening import PLAIN, Sharpening
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens
from itscale.process.tokens import TokenEvaluation, TokenProcess


@dataclass(frozen=True, kw_only=True)
class UniformNoise:
    """Ancestral sampling of a model whose noise replaces tokens by others at random (D3PM, uniform).

    With the network's law of clean tokens p(x_0 = w | x_t), a position goes to v with probability ::

        sum_w p(w) q(v | x_t, w),   q(v | x_t, w) = q(x_t | v) q(v | w) / q(x_t | w)

    where q keeps a token with the share of the schedule and else draws any of them. Tokens revise each other
    until the last step, which draws clean ones. Given positions stay.

    Cost: a look a step. Target: the model, as steps are added.

    Attributes:
        sharpening: of the law of clean tokens; it changes the law of samples.

    Reference:
        Austin et al. (2021), "Structured Denoising Diffusion Models in Discrete State-Spaces",
        arXiv:2107.03006, section 3.
    """

    sharpening: Sharpening = PLAIN

    @property
    def changes_law(self) -> bool:
        return not self.sharpening.is_plain

    @property
    def has_density(self) -> bool:
        return True

    def build(self, process: TokenProcess, steps: int | None) -> UniformKernel:
        needs_one_model(self, process)
        if process.tokens.noise != "uniform":
            raise ConfigError(
                "UniformNoise is for models trained on uniform noise, wrap_masked(noise='uniform'); this "
                "one hides tokens, use solver='first-hitting' or 'ancestral'"
            )
        if not int(process.hidden.max()):
            raise nothing_hidden()
        steps = DEFAULT_STEPS if steps is None else steps
        return UniformKernel(steps, process.view.clean_shares(steps), self.sharpening)


@dataclass(frozen=True)
class UniformKernel:
    steps: int
    clean: Float64[Tensor, " levels"]
    sharpening: Sharpening
    times: Float64[Tensor, " levels"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", uniform_levels(self.steps))

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def extra_looks(self, level: int) -> int:
        return free_end(level, self.steps)

    def law(self, at: TokenEvaluation, level: int) -> Float64[Tensor, "k v"]:
        """Log-probabilities of the tokens that open positions go to."""
        space = at.process.tokens
        row, column = at.is_masked.nonzero(as_tuple=True)
        data = self.sharpening(at.log_probs((row, column))[0])
        if level + 1 == self.steps:
            return data
        a, b = self.clean[level : level + 2].tolist()
        size, now = space.size, space.shown(at.x)[row, column][:, None]
        is_now = torch.arange(size, device=now.device) == now
        between = a / b  # what the forward process keeps from level + 1 down to this level
        to_now = between * is_now.double() + (1 - between) / size  # q(x_t | v)
        seen = a * is_now.double() + (1 - a) / size  # q(x_t | w)
        odds = data.exp() / seen
        return (to_now * (b * odds + (1 - b) / size * odds.sum(dim=1, keepdim=True))).log()

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        row, column = at.is_masked.nonzero(as_tuple=True)
        token = draw_tokens(self.law(at, level), u(at.x.shape[1])[row, column])
        x = at.x.clone()
        x[row, column] = token if level + 1 == self.steps else token + at.process.tokens.offset
        return TokenMove(x)

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        space, hidden = at.process.tokens, at.is_masked
        is_last = level + 1 == self.steps
        fits = torch.where(hidden, (to < space.size) if is_last else (to >= space.offset), to == at.x)
        found = torch.where(fits.all(dim=1), 0.0, -torch.inf).double()
        row, column = hidden.nonzero(as_tuple=True)
        token = space.shown(to)[row, column].clamp(0, space.size - 1)
        return found.index_add(0, row, self.law(at, level).gather(-1, token[:, None])[:, 0])

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        return torch.zeros(len(to), dtype=torch.float64, device=to.device)
