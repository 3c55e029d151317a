"""Patterns: sequences written as texts, in which ``_`` stands for a position to generate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.errors import ConfigError, did_you_mean

HIDDEN = "_"


@dataclass(frozen=True)
class Pattern:
    """Reads ``"AC__GT"`` or ``"[C][=O]__[N]"``; what is not written to the end is generated too.

    Attributes:
        symbols: of the tokens, in their order.
        length: of all sequences.
        mask: the token that hides a position.
    """

    symbols: Sequence[str]
    length: int
    mask: int

    def __call__(self, text: str) -> Int64[Tensor, " length"]:
        """Tokens of a pattern.

        Raises:
            ConfigError: if it is longer than the model's sequences, or has a symbol that is not there.
        """
        is_long = any(len(symbol) > 1 for symbol in self.symbols)
        parts = re.findall(r"\[[^\]]*\]|.", text) if is_long else list(text)
        if len(parts) > self.length:
            raise ConfigError(
                f"the pattern {text[:60]!r} has {len(parts)} positions, and sequences of the model have "
                f"{self.length}; shorten it"
            )
        number = {symbol: i for i, symbol in enumerate(self.symbols)} | {HIDDEN: self.mask}
        for part in parts:
            if part not in number:
                raise ConfigError(
                    f"the pattern {text[:60]!r} has {part!r}, which is not in the model's vocabulary."
                    f"{did_you_mean(part, list(number))} {HIDDEN!r} stands for a position to generate"
                )
        tokens = torch.full((self.length,), self.mask)
        tokens[: len(parts)] = torch.tensor([number[part] for part in parts], dtype=torch.int64)
        return tokens


def read_pattern(model: object, text: str) -> Int64[Tensor, " length"]:
    """Tokens of a pattern, as the model writes sequences; of a composition, as its first model does.

    Raises:
        ConfigError: if the model says nothing of how its sequences are written.
    """
    while not hasattr(model, "pattern"):
        inner = getattr(model, "model", None) or next(iter(getattr(model, "experts", ())), None)
        if inner is None:
            break
        model = inner
    pattern = getattr(model, "pattern", None)
    if pattern is None:
        raise ConfigError(
            f"initial={text[:40]!r} is a text, and the model does not say how its sequences are written; "
            "give token numbers, or make it with wrap_masked(pattern=...)"
        )
    return pattern(text)
