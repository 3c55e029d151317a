"""Masked models of molecules: SELFIES tokens in, SMILES out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.errors import ConfigError, missing_extra
from itscale.models.masked import WrappedMasked, wrap_masked
from itscale.models.patterns import Pattern
from itscale.networks.masked_transformer import MaskedTransformer
from itscale.networks.shipped import with_weights

PAD = "[nop]"
"""The SELFIES symbol that stands for nothing; it fills the end of short molecules."""

# fmt: off
ZINC_SYMBOLS = (
    PAD,
    "[C]", "[Ring1]", "[Branch1]", "[=C]", "[N]", "[=Branch1]", "[=O]", "[O]", "[Branch2]",
    "[Ring2]", "[=N]", "[S]", "[#Branch1]", "[=Branch2]", "[#Branch2]", "[F]", "[Cl]", "[#C]",
    "[NH1+1]", "[P]", "[=Ring1]", "[O-1]", "[NH1]", "[NH2+1]", "[Br]", "[N+1]", "[#N]", "[NH3+1]",
    "[=Ring2]", "[=S]", "[=NH1+1]", "[N-1]", "[=N+1]", "[I]", "[S-1]", "[=NH2+1]",
)
# fmt: on
# fmt: off
QM9_SYMBOLS = (
    PAD,
    "[C]", "[Ring1]", "[Branch1]", "[O]", "[N]", "[=Branch1]", "[=C]", "[=O]", "[#Branch1]",
    "[Ring2]", "[#C]", "[Branch2]", "[=N]", "[#N]", "[NH1]", "[=Ring1]", "[=Branch2]", "[F]",
    "[#Branch2]",
)
# fmt: on


@dataclass(frozen=True)
class Spelling:
    """SELFIES symbols as tokens. Every sequence of them spells a molecule, or none if all are padding.

    Called with tokens (rows, length), it returns their SMILES.

    Attributes:
        symbols: the vocabulary; the first one pads.
        length: of all sequences.

    Reference:
        Krenn et al. (2020), "Self-Referencing Embedded Strings (SELFIES)", arXiv:1905.13741.
    """

    symbols: tuple[str, ...]
    length: int

    @property
    def vocabulary(self) -> int:
        return len(self.symbols)

    def __call__(self, x: Int64[Tensor, "rows length"]) -> list[str]:
        """SMILES of complete sequences, not canonical; ``""`` where all tokens pad."""
        return [_smiles_of("".join(self.symbols[i] for i in row if i)) for row in x.tolist()]

    def tokens_or_none(self, smiles: str) -> list[int] | None:
        """Tokens of one molecule, or None if it is too long, or needs a symbol that is not there."""
        selfies = _selfies()
        try:
            symbols = list(selfies.split_selfies(selfies.encoder(smiles)))
        except selfies.EncoderError:
            return None
        if len(symbols) > self.length or any(symbol not in self._number for symbol in symbols):
            return None
        return [self._number[symbol] for symbol in symbols] + [0] * (self.length - len(symbols))

    def encode(self, smiles: Iterable[str]) -> Int64[Tensor, "molecules length"]:
        """Tokens of molecules given as SMILES.

        Raises:
            ConfigError: naming the first that is no SMILES, too long, or has a symbol that is not there.
        """
        rows = []
        for text in smiles:
            row = self.tokens_or_none(text)
            if row is None:
                raise ConfigError(self._why_not(text))
            rows.append(row)
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, self.length)

    def _why_not(self, smiles: str) -> str:
        selfies = _selfies()
        try:
            symbols = list(selfies.split_selfies(selfies.encoder(smiles)))
        except selfies.EncoderError:
            return f"{smiles!r} is no SMILES that can be written in SELFIES; check it with RDKit"
        if len(symbols) > self.length:
            return (
                f"{smiles!r} takes {len(symbols)} tokens, and sequences of the model have {self.length}; use "
                "a smaller molecule"
            )
        strange = next(symbol for symbol in symbols if symbol not in self._number)
        return (
            f"{smiles!r} needs {strange}, which is not in the model's vocabulary of {self.vocabulary} "
            "symbols; stereo marks can be left out"
        )

    @cached_property
    def _number(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}


class MoleculeModel(NamedTuple):
    """A bundled masked model: how molecules are written, and the size of its network."""

    weights: str
    spelling: Spelling
    width: int
    layers: int
    heads: int

    def network(self) -> MaskedTransformer:
        """The network with fresh weights."""
        return MaskedTransformer(
            vocabulary=self.spelling.vocabulary,
            length=self.spelling.length,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
        )

    def load(self) -> WrappedMasked:
        """The masked model with its shipped weights, on the CPU."""
        _selfies()  # its absence is said before anything runs
        return wrap_masked(
            with_weights(self.network(), self.weights),
            vocabulary=self.spelling.vocabulary,
            length=self.spelling.length,
            decode=self.spelling,
            modality="molecule",
            pattern=Pattern(self.spelling.symbols, self.spelling.length, self.spelling.vocabulary),
        )


MODELS = {
    "zinc": MoleculeModel("molecules", Spelling(ZINC_SYMBOLS, 60), width=128, layers=7, heads=4),
    "qm9": MoleculeModel("molecules-tiny", Spelling(QM9_SYMBOLS, 20), width=64, layers=2, heads=4),
}
"""By the data that they learned from."""


@lru_cache(maxsize=200_000)
def _smiles_of(symbols: str) -> str:
    return str(_selfies().decoder(symbols)) if symbols else ""


def _selfies():
    try:
        import selfies
    except ModuleNotFoundError as error:
        raise missing_extra("selfies", "molecules", "the models of molecules") from error
    return selfies
