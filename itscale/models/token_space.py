"""What the tokens of a discrete model are: how many there are, and which of them hides a position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        noise: what hides a token: ``"mask"``, or ``"uniform"``, another token drawn at random. The engine
            keeps a token that may be noise as ``offset`` + token, until it is known.
    """

    size: int
    mask: int
    never: tuple[int, ...] = ()
    noise: Literal["mask", "uniform"] = "mask"

    def __post_init__(self) -> None:
        for name, value, least in (("vocabulary", self.size, 1), ("mask", self.mask, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number >= {least}, got {value!r}")
        if self.noise not in ("mask", "uniform"):
            raise ConfigError(f"noise must be 'mask' or 'uniform', got {self.noise!r}")
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

    @property
    def offset(self) -> int:
        """Number of token 0 where it may be noise."""
        return max(self.size, self.mask + 1)

    def hides(self, x: Tensor) -> Tensor:
        """Where tokens are not known yet."""
        return (x == self.mask) | (x >= self.offset) if self.noise == "uniform" else x == self.mask

    def shown(self, x: Tensor) -> Tensor:
        """What the network sees."""
        return torch.where(x >= self.offset, x - self.offset, x) if self.noise == "uniform" else x

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
