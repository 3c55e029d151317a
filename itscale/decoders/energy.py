"""Energy-based importance sampling: of several complete candidates one is chosen by a joint model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.decoders.ancestral import AncestralKernel, AncestralTokens
from itscale.decoders.base import TokenMove, Uniforms, needs_masks, needs_one_model, no_density
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens
from itscale.process.tokens import TokenEvaluation, TokenProcess

LogLaw = Callable[[Int64[Tensor, "m length"]], Tensor]


@dataclass(frozen=True, kw_only=True)
class EnergyImportance:
    """Draw complete candidates, choose one by how much likelier a joint model finds it, move towards it.

    The tokens of a candidate are drawn independently. It is chosen in proportion to
    ``(p(x_1) / prod_i p_i(x_i)) ^ (1 / temperature)`` with the joint law p of another model, and then every
    hidden position is revealed with the schedule's probability, as its candidate has it. With many candidates
    the tokens of a step depend on each other as they should; with few the choice is biased, and that bias
    does not vanish with more steps: it is for few steps. ``correct=True`` weights by the candidates' mean
    weight, which repairs it; that needs the joint law of visible parts too, which a joint law of complete
    sequences does not give.

    Cost: a look a step at most, and ``candidates`` calls of the joint model a row in the window. Target: the
    joint model as candidates are added; with ``correct``, with weights, as steps are added.

    Attributes:
        log_joint: complete sequences (m, length) to log-probabilities (m,), up to a constant.
        candidates: how many are drawn.
        window: noise times from which and until which candidates are drawn; plain steps elsewhere.
        temperature: of the choice.
        correct: weight by the mean, for a ``temperature`` of 1.
        log_visible: masked sequences to log-probabilities of their visible parts, for ``correct``.

    Reference:
        Xu et al. (2024), "Energy-Based Diffusion Language Models for Text Generation", arXiv:2410.21357.
    """

    log_joint: LogLaw
    candidates: int = 2
    window: tuple[float, float] = (1.0, 0.0)
    temperature: float = 1.0
    correct: bool = False
    log_visible: LogLaw | None = None

    def __post_init__(self) -> None:
        if not callable(self.log_joint):
            raise ConfigError(f"log_joint must be callable on sequences, got {self.log_joint!r}")
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int) or self.candidates < 1:
            raise ConfigError(f"candidates must be a whole number >= 1, got {self.candidates!r}")
        if not 1 >= self.window[0] > self.window[1] >= 0:
            raise ConfigError(
                f"window must be (from, to) noise times, 1 >= from > to >= 0, got {self.window!r}"
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature must be finite and > 0, got {self.temperature!r}")
        if self.correct and (self.log_visible is None or self.temperature != 1):
            raise ConfigError(
                "correct=True weights by the joint law of what is still hidden: it needs log_visible= (the "
                "joint law of visible parts) and temperature=1"
            )

    @property
    def changes_law(self) -> bool:
        return not self.correct

    @property
    def has_density(self) -> bool:
        return False

    def build(self, process: TokenProcess, steps: int | None) -> EnergyKernel:
        needs_one_model(self, process)
        needs_masks(self, process)
        return EnergyKernel(AncestralTokens().build(process, steps), self)


@dataclass(frozen=True)
class EnergyKernel:
    plain: AncestralKernel
    setting: EnergyImportance

    @property
    def steps(self) -> int:
        return self.plain.steps

    @property
    def times(self) -> Float64[Tensor, " levels"]:
        return self.plain.times

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def extra_looks(self, level: int) -> int:
        return self.plain.extra_looks(level)

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        noise_time = 1 - float(self.times[level])
        first, last = self.setting.window
        if not last <= noise_time <= first:
            return self.plain(at, level, u)
        rows, length = at.x.shape
        count = self.setting.candidates
        uniform = u((count + 1) * length + 1)
        row, column = at.is_masked.nonzero(as_tuple=True)
        law = at.log_probs((row, column))[0]
        draws = uniform[:, : count * length].reshape(rows, count, length)
        token = draw_tokens(law[:, None].repeat(1, count, 1), draws[row, :, column])
        full = at.x[:, None].repeat(1, count, 1)
        full[row, :, column] = token
        independent = uniform.new_zeros(rows, count).index_add(0, row, law.gather(-1, token))
        joint = self.setting.log_joint(full.flatten(0, 1)).double().reshape(rows, count).to(independent)
        gain = joint - independent
        pick = draw_tokens(gain / self.setting.temperature, uniform[:, -1])
        towards = full[torch.arange(rows, device=full.device), pick]
        moves = at.is_masked & (uniform[:, count * length : -1] < self.plain.revealed(level))
        ratio = None
        if self.setting.correct:
            assert self.setting.log_visible is not None
            visible = self.setting.log_visible(at.x).double().to(gain)
            ratio = torch.logsumexp(gain, dim=1) - math.log(count) - visible
            ratio = torch.where(at.masks > 0, ratio, 0.0)
        return TokenMove(torch.where(moves, towards, at.x), ratio)

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        raise no_density("EnergyImportance")

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        raise no_density("EnergyImportance")
