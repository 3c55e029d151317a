"""A joint law over short sequences as a masked model: everything about it can be enumerated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.algebra import Composable
from itscale.models.base import Given, Model
from itscale.models.token_space import TokenSpace

MOST_STATES = 20_000_000


@dataclass(frozen=True, eq=False, init=False)
class Enumerable(Composable):
    """A law over all V^L sequences of L tokens: conditionals, tilts and soft values in closed form.

    States are numbered as digits of base V + 1, the first position the highest, with V for a hidden position;
    complete sequences are numbered in base V, in lexicographic order.

    Args:
        log_law: (V,) * L, unnormalised log-probabilities; -inf where there is none.

    Raises:
        ConfigError: if axes differ in length, or there are more than 20 million masked states.

    Example:
        >>> import torch
        >>> model = Enumerable(torch.tensor([[0.1, 0.4], [0.4, 0.1]]).log())
        >>> model.predict(torch.tensor([[0, 2]]), torch.tensor(0.0), None)[0, 1].exp()
        tensor([0.2000, 0.8000], dtype=torch.float64)
    """

    log_law: Tensor

    def __init__(self, log_law: Tensor | np.ndarray) -> None:
        law = torch.as_tensor(log_law, dtype=torch.float64)
        if law.ndim < 1 or len(set(law.shape)) != 1 or law.isnan().any() or (law == math.inf).any():
            raise ConfigError(
                "an enumerable law needs log-probabilities (V,) * L, below infinity, got shape "
                f"{tuple(law.shape)}"
            )
        if (law.shape[0] + 1) ** law.ndim > MOST_STATES:
            raise ConfigError(
                f"{law.ndim} positions of {law.shape[0]} tokens make {(law.shape[0] + 1) ** law.ndim} masked "
                f"states, and an enumerable law has at most {MOST_STATES}; use a shorter sequence"
            )
        object.__setattr__(self, "log_law", law - torch.logsumexp(law.flatten(), 0))

    @property
    def tokens(self) -> TokenSpace:
        return TokenSpace(self.log_law.shape[0], self.log_law.shape[0])

    @property
    def length(self) -> int:
        return self.log_law.ndim

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def modality(self) -> str:
        return "sequence"

    @property
    def rows_per_look(self) -> int:
        return 1

    @property
    def takes_time(self) -> bool:
        return False

    def encode(self, conditions: Sequence[Any]) -> None:
        """Accept groups without a condition.

        Raises:
            ConfigError: for any condition.
        """
        for condition in conditions:
            if condition is not None:
                raise ConfigError(f"an Enumerable takes no condition, got {condition!r}; pass none")

    def predict(
        self, x: Int64[Tensor, "rows length"], t: Tensor, condition: Tensor | None = None
    ) -> Float64[Tensor, "rows length vocabulary"]:
        """Log of ``p(x_i = v | visible tokens)``; of visible positions, as if they were hidden."""
        size, place = self.tokens.size, self._place.to(x.device)
        table = self._log_marginals.to(x.device)
        at = (x * place).sum(dim=1)
        hidden = at[:, None] + (size - x) * place
        v = torch.arange(size, device=x.device)
        found = table[hidden[..., None] - (size - v) * place[:, None]]
        whole = table[hidden]
        # a context that the law rules out says nothing
        return torch.where(whole[..., None] == -torch.inf, 0.0, found - whole[..., None])

    def decode(self, x: Tensor) -> Tensor:
        return x

    def given(self, condition: Any, guidance: float = 1.0) -> Given:
        return Given(cast(Model, self), condition, guidance)

    def to(self, device: torch.device | str) -> Enumerable:
        return self

    @cached_property
    def sequences(self) -> Int64[Tensor, "sequences length"]:
        """All complete sequences, in lexicographic order."""
        v = torch.arange(self.tokens.size)
        return torch.cartesian_prod(*[v] * self.length).reshape(-1, self.length)

    @cached_property
    def states(self) -> Int64[Tensor, "states length"]:
        """All masked states, in order of their numbers."""
        v = torch.arange(self.tokens.size + 1)
        return torch.cartesian_prod(*[v] * self.length).reshape(-1, self.length)

    def index(self, x: Int64[Tensor, "*rows length"]) -> Int64[Tensor, "*rows"]:
        """Numbers of complete sequences."""
        place = self.tokens.size ** torch.arange(self.length - 1, -1, -1)
        return (x.cpu() * place).sum(dim=-1)

    def number(self, x: Int64[Tensor, "*rows length"]) -> Int64[Tensor, "*rows"]:
        """Numbers of masked states."""
        return (x.cpu() * self._place).sum(dim=-1)

    @property
    def law(self) -> Float64[Tensor, " sequences"]:
        """Probabilities of all complete sequences."""
        return self.log_law.flatten().exp()

    def log_prob(self, x: Int64[Tensor, "*rows length"]) -> Float64[Tensor, "*rows"]:
        """Log-probability of complete sequences, or of the visible part of masked ones."""
        return self._log_marginals[self.number(x)]

    def tilted_law(
        self, rewards: Float64[Tensor, " sequences"], tilt: float = 1.0
    ) -> tuple[Float64[Tensor, " sequences"], float]:
        """Probabilities proportional to ``p(x) exp(tilt r(x))``, and the logarithm of their normaliser."""
        joint = self.log_law.flatten() + tilt * torch.as_tensor(rewards, dtype=torch.float64)
        log_z = torch.logsumexp(joint, 0)
        return (joint - log_z).exp(), float(log_z)

    def soft_values(
        self, rewards: Float64[Tensor, " sequences"], tilt: float = 1.0
    ) -> Float64[Tensor, " states"]:
        """``log E[exp(tilt r) | x] / tilt`` of every masked state, by its number; the mean at tilt 0."""
        rewards = torch.as_tensor(rewards, dtype=torch.float64)
        if tilt == 0:
            law = self._summed(self.law.reshape(self.log_law.shape))
            return self._summed((self.law * rewards).reshape(self.log_law.shape)) / law
        top = rewards.max()
        heavy = self.law * (tilt * (rewards - top)).exp()
        whole = self._summed(heavy.reshape(self.log_law.shape))
        return top + (whole.log() - self._log_marginals) / tilt

    def histogram(
        self, x: Int64[Tensor, "*rows length"], weights: Float64[Tensor, "*rows"] | None = None
    ) -> Float64[Tensor, " sequences"]:
        """Shares of complete sequences among samples, weighted or not."""
        at = self.index(x).flatten()
        w = torch.ones(len(at), dtype=torch.float64) if weights is None else weights.flatten().double()
        return torch.zeros(self.log_law.numel(), dtype=torch.float64).index_add_(0, at, w) / w.sum()

    def power(self, exponents: Sequence[float], *others: Enumerable) -> tuple[Enumerable, float]:
        """The law proportional to ``prod_k p_k^b_k`` over this one and others, and log of its normaliser."""
        joint = sum(b * m.log_law for b, m in zip(exponents, (self, *others), strict=True))
        assert isinstance(joint, Tensor)
        return Enumerable(joint), float(torch.logsumexp(joint.flatten(), 0))

    @cached_property
    def _place(self) -> Int64[Tensor, " length"]:
        return (self.tokens.size + 1) ** torch.arange(self.length - 1, -1, -1)

    @cached_property
    def _log_marginals(self) -> Float64[Tensor, " states"]:
        return self._summed(self.law.reshape(self.log_law.shape)).log()

    def _summed(self, table: Tensor) -> Float64[Tensor, " states"]:
        """Append to every axis the sum over it: entries of all masked states."""
        for axis in range(self.length):
            table = torch.cat([table, table.sum(dim=axis, keepdim=True)], dim=axis)
        return table.flatten()


def from_function(
    vocabulary: int, length: int, log_weight: Callable[[Int64[Tensor, "sequences length"]], Tensor]
) -> Enumerable:
    """Make a law of an unnormalised log-weight of complete sequences."""
    v = torch.arange(vocabulary)
    every = torch.cartesian_prod(*[v] * length).reshape(-1, length)
    return Enumerable(log_weight(every).double().reshape((vocabulary,) * length))
