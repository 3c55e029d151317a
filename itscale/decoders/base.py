"""What a decoder is: a setting that, for a masked model and a number of steps, becomes a kernel on tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process.tokens import TokenEvaluation, TokenProcess

Uniforms = Callable[[int], Float64[Tensor, "rows count"]]
"""``u(count)``: uniforms in [0, 1) of this move, (rows, count); may be asked once a move."""


@dataclass(frozen=True)
class TokenMove:
    """Where a kernel took sequences.

    Attributes:
        x: tokens (rows, length).
        log_ratio: log-weight of the move, (rows,): what a composition leaves to it, log p - log q of a
            proposal; None is 0.
        memo: what the kernel remembers of rows from now on.
        looks: energy calls inside the move, (rows,); None is the kernel's ``extra_looks`` each.
    """

    x: Int64[Tensor, "rows length"]
    log_ratio: Float64[Tensor, " rows"] | None = None
    memo: Tensor | None = None
    looks: Tensor | None = None


class TokenKernel(Protocol):
    """One move of a decoder. Level k of T reveals so many tokens that all are known at level T.

    Attributes:
        steps: T.
        times: (T + 1,), what networks that take a time are told at the levels.
    """

    @property
    def steps(self) -> int: ...

    @property
    def times(self) -> Float64[Tensor, " levels"]: ...

    def __call__(self, at: TokenEvaluation, level: int, u: Uniforms) -> TokenMove: ...

    def is_noisy(self, level: int) -> bool:
        """Whether the move from this level separates copies."""
        ...

    def extra_looks(self, level: int) -> int:
        """What the move costs beside the look at its end: the most there can be.

        -1 for the move that completes sequences, whose end needs no look; see ``free_end``.
        """
        ...

    def log_prob(
        self, at: TokenEvaluation, level: int, to: Int64[Tensor, "rows length"]
    ) -> Float64[Tensor, " rows"]:
        """Log-probability of the move that ends at ``to``; -inf where it cannot.

        Raises:
            ConfigError: if the kernel has none in closed form.
        """
        ...

    def log_weight(
        self, at: TokenEvaluation, level: int, to: Int64[Tensor, "rows length"]
    ) -> Float64[Tensor, " rows"]:
        """The ``log_ratio`` of the move that ends at ``to``."""
        ...


class Decoder(Protocol):
    """A setting. ``build`` checks it against the process before any network call.

    Attributes:
        has_density: whether its kernel knows the probability of its moves.
        changes_law: it is a heuristic: with exact conditionals, its samples do not follow the model.
    """

    @property
    def has_density(self) -> bool: ...

    @property
    def changes_law(self) -> bool: ...

    def build(self, process: TokenProcess, steps: int | None) -> TokenKernel: ...


def event_count(process: TokenProcess, steps: int | None) -> int:
    """Steps of a decoder that reveals a whole number of positions a step; None is one position each.

    Raises:
        ConfigError: if there is nothing to generate, or more steps than positions.
    """
    most = int(process.hidden.max())
    if most == 0:
        raise nothing_hidden()
    if steps is None:
        return most
    if steps > most:
        raise ConfigError(
            f"steps={steps} is more than the {most} positions to generate, and every step reveals one at "
            "least; use steps=None for one position a step, or solver='ancestral'"
        )
    return steps


def quotas(hidden: Int64[Tensor, " groups"], steps: int) -> list[int]:
    """Most positions that rows reveal at every step: those left, evenly over the steps left."""
    left, most = hidden.clone(), []
    for step in range(steps):
        share = -(-left // (steps - step))
        most.append(int(share.max()))
        left = left - share
    return most


def share_of(masks: Int64[Tensor, " rows"], level: int, steps: int) -> Int64[Tensor, " rows"]:
    """How many positions rows with so many hidden ones reveal at a level."""
    return -(-masks // max(1, steps - level))


def uniform_levels(steps: int) -> Float64[Tensor, " levels"]:
    """Times of levels at which equal shares are revealed."""
    return torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)


def free_end(level: int, steps: int) -> int:
    """``extra_looks`` of a kernel without looks of its own, whose sequences are complete after all steps."""
    return -1 if level + 1 == steps else 0


def no_density(name: str) -> ConfigError:
    return ConfigError(
        f"the moves of {name} have no probability in closed form; use solver='first-hitting' or 'ancestral'"
    )


def nothing_hidden() -> ConfigError:
    return ConfigError("initial hides no position, so there is nothing to generate: put the mask token there")


def needs_one_model(decoder: Any, process: TokenProcess) -> None:
    """Raise ConfigError for a composition, whose weights this decoder does not know."""
    if process.powers is not None:
        raise ConfigError(
            f"{type(decoder).__name__} knows no weights for the composition {process.model}; use "
            "solver='first-hitting', 'confidence' or 'ancestral'"
        )


def needs_masks(decoder: Any, process: TokenProcess) -> None:
    """Raise ConfigError for a model whose noise is other tokens."""
    if process.tokens.noise != "mask":
        raise ConfigError(
            f"{type(decoder).__name__} reveals hidden tokens, and the model was trained on noise="
            f"{process.tokens.noise!r}; use solver='uniform-noise'"
        )


class EvenSteps:
    """Of a kernel that reveals equal shares at every step and looks at nothing by itself.

    Attributes:
        steps: T; a field of the kernel.
    """

    steps: int

    @property
    def times(self) -> Float64[Tensor, " levels"]:
        return uniform_levels(self.steps)

    def extra_looks(self, level: int) -> int:
        return free_end(level, self.steps)


class NoDensity:
    """Of a kernel, named after its decoder, that does not know the probability of its moves."""

    def log_prob(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        raise no_density(type(self).__name__.removesuffix("Kernel"))

    def log_weight(self, at: TokenEvaluation, level: int, to: Tensor) -> Float64[Tensor, " rows"]:
        raise no_density(type(self).__name__.removesuffix("Kernel"))
