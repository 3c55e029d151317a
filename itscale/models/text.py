"""A masked model of English text, character by character."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.masked import WrappedMasked, wrap_masked
from itscale.models.patterns import Pattern
from itscale.networks.masked_transformer import MaskedTransformer
from itscale.networks.shipped import with_weights

CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 128


@dataclass(frozen=True)
class Characters:
    """Characters as tokens. Called with tokens (rows, length), it returns texts.

    Attributes:
        symbols: the vocabulary, one character a token.
        length: of all sequences.
    """

    symbols: str
    length: int

    @property
    def vocabulary(self) -> int:
        return len(self.symbols)

    def __call__(self, x: Int64[Tensor, "rows length"]) -> list[str]:
        return ["".join(self.symbols[i] for i in row) for row in x.tolist()]

    def encode(self, texts: Iterable[str]) -> Int64[Tensor, "texts length"]:
        """Tokens of texts of the full length.

        Raises:
            ConfigError: naming the first of another length, or the character that is not there.
        """
        rows = []
        for text in texts:
            if len(text) != self.length:
                raise ConfigError(f"a text must have {self.length} characters, {text[:40]!r} has {len(text)}")
            strange = next((c for c in text if c not in self._number), None)
            if strange is not None:
                raise ConfigError(f"character {strange!r} is not in the vocabulary, {self.symbols!r}")
            rows.append([self._number[c] for c in text])
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, self.length)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}


SPELLING = Characters(CHARACTERS, LENGTH)


def fresh_network(dropout: float = 0.0) -> MaskedTransformer:
    """The network of ``text`` before training."""
    return MaskedTransformer(
        vocabulary=SPELLING.vocabulary, length=LENGTH, width=128, layers=6, heads=4, dropout=dropout
    )


def load_text() -> WrappedMasked:
    """Load the bundled masked model of English text, in the manner of Shakespeare's plays, on the CPU."""
    return wrap_masked(
        with_weights(fresh_network(), "text"),
        vocabulary=SPELLING.vocabulary,
        length=LENGTH,
        decode=SPELLING,
        modality="text",
        pattern=Pattern(CHARACTERS, LENGTH, SPELLING.vocabulary),
    )
