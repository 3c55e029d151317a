"""A masked model set in motion: one look at all hidden positions, and what kernels and rewards read of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.algebra import Product
from itscale.models.base import Given
from itscale.models.composition import name_of
from itscale.models.token_space import TokenSpace
from itscale.process.masking import Masking

Where = Bool[Tensor, "rows length"] | tuple[Tensor, Tensor]
"""Positions: a mask, or row and column indices (k,) each."""


@dataclass(frozen=True)
class TokenEvaluation:
    """Logits of a look at masked sequences; laws are read where they are asked for, in float64.

    Attributes:
        x: tokens (rows, length).
        t: time, () or (rows,).
        raw: logits (rows, length, V), or (rows, experts, length, V) of a composition.
        memo: (rows, k), numbers that a kernel remembers of every row.
    """

    x: Int64[Tensor, "rows length"]
    t: Tensor
    raw: Tensor
    process: TokenProcess
    memo: Tensor | None = None

    @cached_property
    def is_masked(self) -> Bool[Tensor, "rows length"]:
        return self.process.tokens.hides(self.x)

    @cached_property
    def masks(self) -> Int64[Tensor, " rows"]:
        """Hidden positions per row."""
        return self.is_masked.sum(dim=1)

    def log_factors(self, where: Where) -> Float64[Tensor, "k v"]:
        """``log f(v)`` at positions: ``log p(v | visible)``, or what a composition makes of its experts.

        They sum to ``exp(log S)``, which is 1 unless the model is a composition.
        """
        powers = self.process.powers
        if powers is None:
            return torch.log_softmax(_at(self.raw, where).double(), dim=-1)
        total: Tensor | None = None
        for k, power in enumerate(powers):
            if power:
                # 0 times -inf would be NaN, and what an expert of negative power rules out infinite
                term = power * _floored(torch.log_softmax(_at(self.raw[:, k], where).double(), dim=-1), power)
                total = term if total is None else total + term
        assert total is not None
        return total

    def log_probs(self, where: Where) -> tuple[Float64[Tensor, "k v"], Float64[Tensor, " k"]]:
        """The law of the token at positions, and ``log S`` there: 0 unless the model is a composition."""
        factors = self.log_factors(where)
        if self.process.powers is None:
            return factors, factors.new_zeros(factors.shape[:-1])
        mass = torch.logsumexp(factors, dim=-1)
        return factors - mass[..., None], mass

    @cached_property
    def every(self) -> tuple[Float64[Tensor, "rows length v"], Float64[Tensor, "rows length"]]:
        """``log_probs`` at all positions; at visible ones the token that stands there is certain, S is 1."""
        rows, length = self.x.shape
        v = self.process.tokens.size
        hidden = self.is_masked
        law, mass = self.log_probs(hidden)
        log_probs = law.new_full((rows, length, v), -torch.inf)
        log_probs[hidden] = law
        row, column = (~hidden).nonzero(as_tuple=True)
        log_probs[row, column, self.x[row, column]] = 0.0
        masses = mass.new_zeros(rows, length)
        masses[hidden] = mass
        return log_probs, masses

    @cached_property
    def denoised(self) -> Int64[Tensor, "rows length"]:
        """The sequence with the likeliest token at every hidden position."""
        if self.process.powers is None:
            likeliest = self.raw.argmax(dim=-1)
        elif bool(self.is_masked.any()):
            likeliest = self.every[0].argmax(dim=-1)
        else:
            likeliest = self.x
        return torch.where(self.is_masked, likeliest, self.x)


@dataclass(frozen=True)
class TokenProcess:
    """A masked model, or a product of some, with its schedule and the positions that are given.

    Attributes:
        template: (groups, length) tokens that every sequence of a group begins with; None is all hidden.
    """

    model: Any
    view: Masking
    template: Int64[Tensor, "groups length"] | None = None
    has_rates: ClassVar[bool] = False
    is_exact: ClassVar[bool] = False
    is_fitted: ClassVar[bool] = False
    rate_share: ClassVar[float] = 1.0
    remembers: ClassVar[bool] = False
    can_jump: ClassVar[bool] = True
    is_law: ClassVar[bool] = True
    is_adjusted: ClassVar[bool] = False
    prior: ClassVar[None] = None
    log_start: ClassVar[float] = 0.0
    tokens: TokenSpace = field(init=False)
    powers: tuple[float, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", self.model.tokens)
        powers = None
        if isinstance(self.model, Product):
            if any(callable(term.exponent) for term in self.model.terms):
                raise ConfigError(
                    f"exponents of masked models must be numbers, got {self.model}: weights of one that "
                    "changes with time need the probability of every visible part"
                )
            if self.model.density is not None:
                raise ConfigError(
                    f"density={self.model.density!r} follows log-densities along continuous paths; a "
                    "composition of masked models has none: leave it out"
                )
            powers = tuple(term.at(0.0) for term in self.model.terms)
        object.__setattr__(self, "powers", powers)

    @property
    def length(self) -> int:
        return self.model.event_shape[0]

    @property
    def takes_time(self) -> bool:
        return any(expert.takes_time for expert in self.experts)

    @property
    def experts(self) -> tuple[Any, ...]:
        return self.model.experts if isinstance(self.model, Product) else (self.model,)

    @property
    def hidden(self) -> Int64[Tensor, " groups"]:
        """Positions to generate, in every group."""
        if self.template is None:
            return torch.tensor([self.length])
        return (self.template == self.tokens.mask).sum(dim=1)

    def begin(self, group: Int64[Tensor, " rows"]) -> Int64[Tensor, "rows length"]:
        """What rows of these groups start from."""
        if self.template is None:
            return torch.full((len(group), self.length), self.tokens.mask, dtype=torch.int64)
        return self.template[group]

    def evaluate(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> TokenEvaluation:
        """Call the network once: one NFE per row."""
        seen = self.tokens.shown(x)
        if not isinstance(self.model, Product):
            return self.evaluation(x, t, self.model.predict(seen, t, condition))
        raw: list[Tensor | None] = [None] * len(self.experts)
        for members in self._families:
            for index, found in zip(members, self._asked(members, seen, t), strict=True):
                raw[index] = found
        return self.evaluation(x, t, torch.stack([r for r in raw if r is not None], dim=1))

    def evaluation(self, x: Tensor, t: Tensor, raw: Tensor, memo: Tensor | None = None) -> TokenEvaluation:
        """Read logits, as ``evaluate`` returned them."""
        return TokenEvaluation(x, t, raw, self, memo)

    @cached_property
    def _families(self) -> list[list[int]]:
        """Indices of experts that share a network."""
        found: dict[int, list[int]] = {}
        for index, model in enumerate(self.experts):
            found.setdefault(id(_network(model)), []).append(index)
        return list(found.values())

    def _asked(self, members: Sequence[int], x: Tensor, t: Tensor) -> list[Tensor]:
        """Logits of experts of one network, from one call."""
        models = [self.experts[i] for i in members]
        if len(models) == 1:
            return [models[0].predict(x, t, None)]
        encoded = [m.encode([None]) for m in models]
        conditions = None
        if all(e is not None for e in encoded):
            conditions = torch.cat(
                [e.to(x.device).expand(len(x), *e.shape[1:]) for e in encoded if e is not None]
            )
        times = t if t.ndim == 0 else t.repeat(len(models))
        raw = _network(models[0]).predict(x.repeat(len(models), 1), times, conditions)
        return list(raw.chunk(len(models)))


def check_masked(model: Any) -> None:
    """Raise ConfigError unless a model over tokens is a masked model or a product of some."""
    if isinstance(model, Product) or not hasattr(model, "experts"):
        return
    raise ConfigError(
        f"{type(model).__name__} of masked models is not defined: densities are followed along paths of "
        f"continuous models; use a product such as {name_of(model.experts[0])} ** 0.5 * ..., or sample the "
        "experts in turn"
    )


def _network(model: Any) -> Any:
    """What is asked for a conditional expert; guided ones are asked by themselves."""
    return model.model if isinstance(model, Given) and model.guidance == 1 else model


def _at(raw: Tensor, where: Where) -> Tensor:
    return raw[where]


RULED_OUT = -30.0
"""Floor of the log-probabilities of an expert with a negative power: where it rules a token out, a quotient
is infinite."""


def _floored(log_probs: Tensor, power: float) -> Tensor:
    return log_probs.clamp(min=RULED_OUT) if power < 0 else log_probs
