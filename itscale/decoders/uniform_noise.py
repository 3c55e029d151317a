"""Models trained on noise that replaces tokens: every token may still be another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

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

    ``transitions`` puts any other noise in place of the uniform one, such as one that prefers neighbours
    among ordered tokens: matrices whose row w says where a clean token w is at a level.

    Cost: a look a step. Target: the model, as steps are added.

    Attributes:
        sharpening: of the law of clean tokens; it changes the law of samples.
        transitions: (steps + 1, V, V) float64 rows of probabilities: level 0 is all noise, all entries 1 / V,
            the last level clean, the unit matrix, and each a noisier version of the next: ``Q_k = Q_(k+1) M``
            with a matrix M of probabilities.

    Raises:
        ConfigError: for transitions of another shape, that are no probabilities, or no noising.

    Reference:
        Austin et al. (2021), "Structured Denoising Diffusion Models in Discrete State-Spaces",
        arXiv:2107.03006, section 3.
    """

    sharpening: Sharpening = PLAIN
    transitions: Float64[Tensor, "levels v v"] | None = field(default=None, compare=False)

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
        if self.transitions is not None:
            given = torch.as_tensor(self.transitions, dtype=torch.float64)
            count = given.shape[0] - 1 if given.ndim else 0
            steps = count if steps is None else steps
            noise = between_levels(given, steps, process.tokens.size)
            return TransitionKernel(steps, process.view.clean_shares(steps), self.sharpening, noise)
        steps = DEFAULT_STEPS if steps is None else steps
        return UniformKernel(steps, process.view.clean_shares(steps), self.sharpening)


class Noise(NamedTuple):
    """What the forward process does, (levels, V, V): a clean w is at v, and a v of the next level at x."""

    from_clean: Float64[Tensor, "levels v v"]
    from_next: Float64[Tensor, "steps v v"]


def between_levels(transitions: Tensor, steps: int, size: int) -> Noise:
    """Check transitions from clean tokens, and find those between levels.

    Raises:
        ConfigError: naming what is wrong with them.
    """
    if tuple(transitions.shape) != (steps + 1, size, size):
        raise ConfigError(
            f"transitions must be (steps + 1, V, V) = {(steps + 1, size, size)}, got "
            f"{tuple(transitions.shape)}"
        )
    sums = transitions.sum(dim=2)
    if not bool((transitions >= 0).all()) or float((sums - 1).abs().max()) > 1e-8:
        raise ConfigError("rows of transitions must be probabilities: not negative, and one in sum")
    if float((transitions[0] - 1 / size).abs().max()) > 1e-6:
        raise ConfigError("transitions must begin with pure noise: all entries of level 0 are 1 / V")
    if float((transitions[-1] - torch.eye(size, dtype=torch.float64)).abs().max()) > 1e-8:
        raise ConfigError("transitions must end clean: the last level is the unit matrix")
    steps_back = torch.linalg.lstsq(transitions[1:], transitions[:-1]).solution
    off = float((transitions[1:] @ steps_back - transitions[:-1]).abs().max())
    if off > 1e-6 or float(steps_back.min()) < -1e-6:
        raise ConfigError(
            "every level of transitions must be a noisier version of the next one, Q_k = Q_(k+1) M with "
            "probabilities M"
        )
    return Noise(transitions, steps_back.clamp(min=0))


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


@dataclass(frozen=True)
class TransitionKernel(UniformKernel):
    """The same under any noise, as matrices."""

    noise: Noise

    def law(self, at: TokenEvaluation, level: int) -> Float64[Tensor, "k v"]:
        """Log-probabilities of the tokens that open positions go to."""
        row, column = at.is_masked.nonzero(as_tuple=True)
        data = self.sharpening(at.log_probs((row, column))[0])
        if level + 1 == self.steps:
            return data
        now = at.process.tokens.shown(at.x)[row, column]
        clean, between = (m.to(now.device) for m in self.noise)
        seen = clean[level].T[now]  # q(x_t | w), a row per position
        to_now = between[level].T[now]  # q(x_t | v)
        odds = data.exp() / seen.clamp(min=torch.finfo(torch.float64).tiny)
        return (to_now * (odds @ clean[level + 1])).log()
