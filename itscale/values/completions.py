"""The value of a masked sequence by what it may be completed to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens
from itscale.process.tokens import TokenEvaluation, TokenProcess
from itscale.values.base import ScoreCost, Sight


@dataclass(frozen=True)
class CompletionsForecast:
    """Draws of all hidden tokens, each position by itself."""

    samples: int
    is_mean: bool

    @property
    def cost(self) -> ScoreCost:
        return ScoreCost(0, self.samples, is_denoised=False, is_mean=self.is_mean)

    def __call__(self, sight: Sight) -> Tensor:
        at = cast(TokenEvaluation, sight.at)
        assert sight.uniforms is not None
        rows, length = at.x.shape
        u = sight.uniforms(self.samples * length).reshape(rows, self.samples, length)
        x = at.x[:, None].repeat(1, self.samples, 1)
        row, column = at.is_masked.nonzero(as_tuple=True)
        law = at.log_probs((row, column))[0]
        drawn = draw_tokens(law[:, None].repeat(1, self.samples, 1), u[row, :, column])
        x[row, :, column] = drawn
        return x


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Rewards of ``samples`` completions, every hidden token drawn from its law as the look gives it.

    Tokens of one completion are independent given the visible ones, which true completions are not; few
    hidden tokens, little error. ``average="soft"`` is ``log mean exp(tilt r) / tilt``, an estimate of the
    soft value; ``"mean"`` is the plain mean, which understates it. ``value="denoised"`` completes with the
    likeliest tokens instead: one call, and the worst of the three on exact models.

    Cost: no look, ``samples`` reward calls a score. Target: any method's, unchanged.

    Reference:
        Singhal et al. (2025), arXiv:2501.06848 (samples, averaged); Li et al. (2024), arXiv:2408.08252.
    """

    samples: int = 4
    average: Literal["soft", "mean"] = "soft"

    for_tokens = True

    def __post_init__(self) -> None:
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise ConfigError(f"samples of Completions must be a whole number >= 1, got {self.samples!r}")
        if self.average not in ("soft", "mean"):
            raise ConfigError(f"average must be 'soft' or 'mean', got {self.average!r}")

    def build(self, process: Any, times: Tensor) -> CompletionsForecast:
        if not isinstance(process, TokenProcess):
            raise ConfigError("Completions is a value of masked models; use ManySample for continuous ones")
        return CompletionsForecast(self.samples, self.average == "mean")


@dataclass(frozen=True)
class TabulatedForecast:
    """Values looked up by the number of a masked state."""

    values: Float64[Tensor, " states"]
    base: int

    @property
    def cost(self) -> ScoreCost:
        return ScoreCost(0, 0, is_denoised=False)

    def __call__(self, sight: Sight) -> Tensor:
        x = sight.at.x
        place = self.base ** torch.arange(x.shape[1] - 1, -1, -1, device=x.device)
        return self.values.to(x.device)[(x * place).sum(dim=1)]


@dataclass(frozen=True, eq=False)
class Tabulated:
    """Values of all masked states, such as ``Enumerable.soft_values``: what other values are measured by.

    Cost: none before the last look.

    Attributes:
        values: by the number of the state, in units of the reward.
    """

    values: Float64[Tensor, " states"]

    for_tokens = True

    def build(self, process: Any, times: Tensor) -> TabulatedForecast:
        if not isinstance(process, TokenProcess):
            raise ConfigError("Tabulated is a value of masked models")
        base, length = process.tokens.size + 1, process.length
        if tuple(self.values.shape) != (base**length,):
            raise ConfigError(
                f"values of {length} positions of {base - 1} tokens are {base**length} numbers, got "
                f"{tuple(self.values.shape)}"
            )
        return TabulatedForecast(self.values.double(), base)
