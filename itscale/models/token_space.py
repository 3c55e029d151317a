"""What the tokens of a discrete model are: how many there are, and which of them hides a position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.errors import ConfigError


@dataclass(frozen=True)
class TokenSpace:
    """Tokens 0 .. size - 1, and one that hides what stands at a position.

    Attributes:
        size: columns of the model's logits, V.
        mask: the hiding token: ``size``, or one of the columns, which is then never generated.
        never: other columns that are never generated, such as those that only pad a batch.
    """

    size: int
    mask: int
    never: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, value, least in (("vocabulary", self.size, 1), ("mask", self.mask, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number >= {least}, got {value!r}")
        if any(isinstance(v, bool) or not isinstance(v, int) or not 0 <= v < self.size for v in self.never):
            raise ConfigError(f"never must hold tokens from 0 to {self.size - 1}, got {self.never!r}")
        if not self.generated:
            raise ConfigError(
                f"no token of {self.size} is left to generate: mask={self.mask}, never={self.never}"
            )

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Columns of the logits that count as impossible."""
        own = (self.mask,) if self.mask < self.size else ()
        return tuple(sorted({*self.never, *own}))

    @property
    def generated(self) -> int:
        """How many tokens can be generated."""
        return self.size - len(self.suppressed)

    def check(self, tokens: Tensor, length: int, what: str) -> None:
        """Raise ConfigError unless ``tokens`` (..., length) are whole numbers that the model knows."""
        if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.dtype == torch.bool:
            kind = getattr(tokens, "dtype", type(tokens).__name__)
            raise ConfigError(f"{what} must be a tensor of token numbers (int64), got {kind}")
        if not tokens.ndim or tokens.shape[-1] != length:
            raise ConfigError(
                f"{what} has {tokens.shape[-1] if tokens.ndim else 0} tokens, and sequences of the model "
                f"have {length}; fill up with the mask token {self.mask} where tokens are to be generated"
            )
        wrong = (tokens < 0) | ((tokens >= self.size) & (tokens != self.mask))
        if wrong.any():
            where = wrong.nonzero()[0].tolist()
            raise ConfigError(
                f"{what} holds token {int(tokens[tuple(where)])} at position {where[-1]}; tokens are 0 to "
                f"{self.size - 1}, and {self.mask} for a position to generate"
            )
