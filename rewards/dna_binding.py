"""How strongly a transcription factor binds DNA: a measured number for every sequence of eight letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError

from .declare import built_in, check_choice

LETTERS = "ACGT"
SITE = 8
FACTORS = ("EGR2", "FOXC1", "HOXD13", "NR1H4", "PAX3")


@built_in("dna-binding")
@dataclass(frozen=True)
class DnaBinding:
    """Binding of a transcription factor, in standard deviations over all 8-mers, from their mean.

    Scores are those of the E-score measured on microarrays, of both strands alike. A longer sequence scores
    as its best window of eight.

    Takes texts of A, C, G and T, or tokens 0 to 3 in that order.

    Args:
        factor: ``"EGR2"``, ``"FOXC1"``, ``"HOXD13"``, ``"NR1H4"`` or ``"PAX3"``.

    Raises:
        ConfigError: for another factor, a shorter sequence, or other letters.

    Reference:
        Barrera et al. (2016), "Survey of variation in human transcription factors reveals prevalent DNA
        binding changes", Science 351:1450.
    """

    factor: str = "EGR2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", str(self.factor).upper())
        check_choice("dna-binding", "factor", self.factor, FACTORS)

    def __call__(self, samples: Any) -> Float[Tensor, " m"]:
        if isinstance(samples, Tensor):
            return self._best(samples)
        texts = list(samples)
        if len({len(str(text)) for text in texts}) == 1:
            return self._best(dna_tokens(texts))
        return torch.cat([self._best(dna_tokens([text])) for text in texts])

    def _best(self, tokens: Int64[Tensor, "m length"]) -> Float[Tensor, " m"]:
        if tokens.shape[1] < SITE or (tokens < 0).any() or (tokens >= len(LETTERS)).any():
            raise ConfigError(
                f"reward 'dna-binding' scores sequences of at least {SITE} letters with tokens 0 to 3, got "
                f"length {tokens.shape[1]} and tokens {int(tokens.min())} to {int(tokens.max())}"
            )
        place = len(LETTERS) ** torch.arange(SITE - 1, -1, -1, device=tokens.device)
        number = (tokens.unfold(1, SITE, 1) * place).sum(dim=-1)
        found = standardised(self.factor).to(tokens.device)[number]
        return found.amax(dim=1).float()  # over windows


def landscape(factor: str) -> Float64[Tensor, "65536"]:
    """Return the E-scores of all 8-mers, in alphabetical order: -0.5 to 0.5, above 0.45 specific binding."""
    check_choice("dna-binding", "factor", factor, FACTORS)
    with np.load(Path(__file__).with_name("dna_landscapes.npz")) as file:
        half = file[factor].astype(np.float64) / 65535 - 0.5
    number = np.arange(len(LETTERS) ** SITE)
    reverse = np.zeros_like(number)
    for i in range(SITE):  # the complement of a letter is 3 minus it
        reverse = 4 * reverse + 3 - (number >> (2 * i) & 3)
    whole = np.empty(len(number))
    first = np.flatnonzero(number <= reverse)
    whole[first] = half
    whole[reverse[first]] = half
    return torch.from_numpy(whole)


def dna_tokens(texts: Sequence[str]) -> Int64[Tensor, "m length"]:
    """Tokens 0 to 3 of sequences of one length.

    Raises:
        ConfigError: for letters other than A, C, G and T.
    """
    for text in texts:
        strange = set(text.upper()) - set(LETTERS) if isinstance(text, str) else {text}
        if strange:
            named = f"letter {min(strange)!r} of {text!r}" if isinstance(text, str) else repr(text)
            raise ConfigError(f"DNA is written in the letters A, C, G and T, got {named}")
    rows = [[LETTERS.index(letter) for letter in text.upper()] for text in texts]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(texts), -1)


@cache
def standardised(factor: str) -> Float64[Tensor, "65536"]:
    """Return the scores of all 8-mers in standard deviations from their mean, in alphabetical order."""
    scores = landscape(factor)
    return (scores - scores.mean()) / scores.std(correction=0)
