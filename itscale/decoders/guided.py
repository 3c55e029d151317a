"""Guided proposals: tokens are drawn from tilted laws, and weights take the tilt back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
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
from itscale.errors import ConfigError
from itscale.process.categorical import draw_tokens
from itscale.process.tokens import TokenEvaluation, TokenProcess

Tilts = Callable[[Int64[Tensor, "rows length"], Float64[Tensor, "rows length v"]], Tensor]
"""Sequences and log-probabilities of their tokens to tilts (rows, length, V) of the latter."""


@dataclass(frozen=True, kw_only=True)
class GuidedTokens:
    """Draw tokens from ``p_i(v) exp(tilt_i(v)) / Z_i``, with log p - log q as the weight of the move.

    A tilt may be poor and cannot be wrong: whatever it is, a method with weights keeps its target, as with
    the guides of continuous models. A method without weights follows the tilted laws. With
    ``order="anchored"`` the positions that their tilted laws are surest of go first, so that what a
    measurement determines is fixed first; the order depends on visible tokens alone and costs no exactness.

    Cost: a look a step. What ``tilts`` itself costs is not in the ledger. Target: as ``FirstHitting``, with
    weights.

    Attributes:
        tilts: see ``Tilts``; ``straight_through`` makes one of a differentiable function.
        order: ``"random"`` or ``"anchored"``.
        cap: largest difference of tilts from their mean at a position; None does not limit it.

    Reference:
        Nisonoff et al. (2024), "Unlocking Guidance for Discrete State-Space Diffusion and Flow Models",
        arXiv:2406.01572 (first-order tilts, there without weights).
    """

    tilts: Tilts
    order: Literal["random", "anchored"] = "random"
    cap: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.tilts):
            raise ConfigError(f"tilts must be callable as tilts(tokens, log_probs), got {self.tilts!r}")
        if self.order not in ("random", "anchored"):
            raise ConfigError(f"order must be 'random' or 'anchored', got {self.order!r}")
        if self.cap is not None and not self.cap > 0:
            raise ConfigError(f"cap must be > 0 or None, got {self.cap!r}")

    @property
    def has_density(self) -> bool:
        return True

    @property
    def changes_law(self) -> bool:
        return False

    def build(self, process: TokenProcess, steps: int | None) -> GuidedKernel:
        needs_masks(self, process)
        count = event_count(process, steps)
        return GuidedKernel(count, tuple(quotas(process.hidden, count)), self)


@dataclass(frozen=True)
class GuidedKernel(EvenSteps):
    steps: int
    most: tuple[int, ...]
    setting: GuidedTokens

    def is_noisy(self, level: int) -> bool:
        return level < self.steps

    def tilted(self, at: TokenEvaluation) -> Float64[Tensor, "rows length v"]:
        """Log-probabilities of the laws that tokens are drawn from."""
        log_probs = at.every[0]
        tilts = self.setting.tilts(at.x, log_probs)
        if not isinstance(tilts, Tensor) or tilts.shape != log_probs.shape:
            found = tuple(tilts.shape) if isinstance(tilts, Tensor) else type(tilts).__name__
            raise ConfigError(f"tilts must return a tensor {tuple(log_probs.shape)}, got {found}")
        tilts = tilts.detach().to(log_probs)
        if self.setting.cap is not None:
            off = tilts - tilts.mean(dim=-1, keepdim=True)
            tilts = off.clamp(-self.setting.cap, self.setting.cap)
        law = torch.log_softmax(log_probs + tilts.nan_to_num(0.0, posinf=0.0), dim=-1)
        # a tilt of -inf everywhere leaves no law: then there is no guidance
        return torch.where(law.isnan(), log_probs, law)

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove:
        length = at.x.shape[1]
        uniform = u(2 * length)
        law = self.tilted(at)
        chosen = self._chosen(at, law, level, uniform[:, :length])
        row, column = chosen.nonzero(as_tuple=True)
        token = draw_tokens(law[row, column], uniform[row, length + column])
        x = at.x.clone()
        x[row, column] = token
        return TokenMove(x, self._weight(at, law, chosen, x))

    def _chosen(self, at: TokenEvaluation, law: Tensor, level: int, uniform: Tensor) -> Tensor:
        keys = uniform if self.setting.order == "random" else -law.amax(dim=-1)
        return lowest(keys, at.is_masked, share_of(at.masks, level, self.steps))

    def _weight(self, at: TokenEvaluation, law: Tensor, chosen: Tensor, to: Tensor) -> Tensor:
        row, column = chosen.nonzero(as_tuple=True)
        log_probs, mass = at.every
        index = (row, column, to[row, column])
        gain = log_probs[index] - law[index] + mass[row, column]
        return law.new_zeros(len(to)).index_add_(0, row, gain)

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        law, hidden = self.tilted(at), at.is_masked
        chosen = hidden & ~at.process.tokens.hides(to)
        quota = share_of(at.masks, level, self.steps)
        fits = ((to == at.x) | hidden).all(dim=1) & (chosen.sum(dim=1) == quota)
        if self.setting.order == "anchored":
            fits = fits & (self._chosen(at, law, level, law[..., 0]) == chosen).all(dim=1)
            order = law.new_zeros(len(to))
        else:
            n, k = at.masks.double(), quota.double()
            order = torch.lgamma(k + 1) + torch.lgamma(n - k + 1) - torch.lgamma(n + 1)
        row, column = chosen.nonzero(as_tuple=True)
        found = order.masked_fill(~fits, -torch.inf)
        return found.index_add(0, row, law[row, column, to[row, column]])

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        chosen = at.is_masked & ~at.process.tokens.hides(to)
        return self._weight(at, self.tilted(at), chosen, to)


def straight_through(
    function: Callable[[Float[Tensor, "rows length v"]], Float[Tensor, " rows"]], scale: float = 1.0
) -> Tilts:
    """Make tilts of the gradient of a function of one-hot sequences, by a straight-through step.

    The function is evaluated at the likeliest completion, and its gradient with respect to the one-hot tokens
    there is, to first order, what another token at a position would gain.

    Args:
        function: one-hot sequences (rows, length, V) to numbers (rows,), differentiable and independent of
            each other; larger is better.
        scale: factor on the gradient, such as the tilt of the run.

    Reference:
        Bengio et al. (2013), "Estimating or Propagating Gradients Through Stochastic Neurons",
        arXiv:1308.3432.
    """

    def tilts(x: Tensor, log_probs: Tensor) -> Tensor:
        hard = torch.nn.functional.one_hot(log_probs.argmax(dim=-1), log_probs.shape[-1])
        with torch.enable_grad():
            tokens = hard.to(torch.float32).requires_grad_()
            total = function(tokens).sum()
            return scale * torch.autograd.grad(total, tokens)[0]

    return tilts
