"""Compositions in continuous time: jumps at rates, and weights that grow at a rate.

With the clean share a as the clock, n hidden positions, factors f of mass S and a number b > 0, the targets
``(1 - a)^(b n) a^(b (L - n)) Pi(visible)`` are followed by jumps of a hidden position to v at the rate
``kappa f(v)`` and log-weights that grow at ``kappa sum_i S_i - n b / (1 - a)``, where
``kappa = (b / a) (a / (1 - a))^b``. b = 1 keeps the share of hidden positions that the schedule has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.decoders.ancestral import DEFAULT_STEPS
from itscale.decoders.base import EvenSteps, TokenMove, Uniforms, needs_masks, nothing_hidden
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens, log_of
from itscale.process.tokens import TokenEvaluation, TokenProcess


@dataclass(frozen=True)
class JumpRates:
    """Rates of jumps and of weights, per unit of the clean share.

    Attributes:
        power: b.
    """

    power: float = 1.0

    def kappa(self, a: float) -> float:
        """Rate at which a hidden position jumps, per unit of mass of its factor."""
        if a == 0 and self.power < 1:
            return math.inf
        return self.power * a ** (self.power - 1) / (1 - a) ** self.power

    def growth(
        self, mass: Float64[Tensor, "rows length"], hidden: Tensor, a: float
    ) -> Float64[Tensor, " rows"]:
        """Growth of the log-weight; ``mass`` is S, not its logarithm."""
        total = torch.where(hidden, mass, 0.0).sum(dim=1)
        return self.kappa(a) * total - hidden.sum(dim=1) * self.power / (1 - a)

    def step(self, a: float, b: float) -> tuple[float, float]:
        """Weights with which a hidden position stays so from a to b, and jumps per unit of its factor.

        The rates integrated together with the growth: ``h1(b) / h1(a)`` and ``(h2(b) - h2(a)) / h1(a)`` with
        ``h1 = (1 - a)^power``, ``h2 = a^power``.
        """
        before = (1 - a) ** self.power
        return (1 - b) ** self.power / before, (b**self.power - a**self.power) / before


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """Feynman-Kac correctors in continuous time, with the factors held over each step of a grid.

    Rates and weights are integrated together over a step: of a hidden position of mass S, ``s`` goes to
    staying and ``j S`` to jumping (``JumpRates.step``), so it jumps with probability ``j S / (s + j S)`` and
    the log-weight grows by the logarithm of the sum. Euler steps of the rates, as published, are off by
    exponentials of ``kappa`` near the end, where it diverges. With power 1 this is ``AncestralTokens``.

    Cost: at most a look a step. Target: the composition, with weights, as steps are added.

    Attributes:
        power: b; 1 keeps the schedule, the exponent of an annealed model is the published path.

    Reference:
        Hasan et al. (2026), "Discrete Feynman-Kac Correctors", arXiv:2601.10403.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.power, bool) or not 0 < self.power < math.inf:
            raise ConfigError(f"power must be finite and > 0, got {self.power!r}")

    @property
    def has_density(self) -> bool:
        return True

    @property
    def changes_law(self) -> bool:
        return False

    def build(self, process: TokenProcess, steps: int | None) -> JumpKernel:
        needs_masks(self, process)
        if not int(process.hidden.max()):
            raise nothing_hidden()
        steps = DEFAULT_STEPS if steps is None else steps
        return JumpKernel(steps, process.view.clean_shares(steps), JumpRates(self.power))


@dataclass(frozen=True)
class JumpKernel(EvenSteps):
    steps: int
    clean: Float64[Tensor, " levels"]
    rates: JumpRates

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def _shares(self, at: TokenEvaluation, level: int) -> tuple[Tensor, Tensor]:
        """Log of the weight of staying and of jumping, (rows, length)."""
        stay, jump = self.rates.step(*self.clean[level : level + 2].tolist())
        log_mass = at.every[1]
        return torch.full_like(log_mass, log_of(stay)), log_of(jump) + log_mass

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        length = at.x.shape[1]
        uniform = u(2 * length)
        stay, jump = self._shares(at, level)
        chance = (jump - torch.logaddexp(stay, jump)).exp()
        chosen = at.is_masked & (uniform[:, :length] < chance)
        row, column = chosen.nonzero(as_tuple=True)
        x = at.x.clone()
        x[row, column] = draw_tokens(at.every[0][row, column], uniform[row, length + column])
        return TokenMove(x, self.log_weight(at, level, x))

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        hidden = at.is_masked
        chosen = hidden & ~at.process.tokens.hides(to)
        stay, jump = self._shares(at, level)
        total = torch.logaddexp(stay, jump)
        found = torch.where(hidden & ~chosen, stay - total, 0.0).sum(dim=1)
        found = found.masked_fill(((to != at.x) & ~hidden).any(dim=1), -torch.inf)
        row, column = chosen.nonzero(as_tuple=True)
        jumped = (jump - total)[row, column] + at.every[0][row, column, to[row, column]]
        return found.index_add(0, row, jumped)

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        stay, jump = self._shares(at, level)
        return torch.where(at.is_masked, torch.logaddexp(stay, jump), 0.0).sum(dim=1)
