"""Models of DNA of eight letters: small enough that everything about them can be enumerated."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.models.enumerable import Enumerable
from itscale.models.masked import WrappedMasked, wrap_masked
from itscale.models.patterns import Pattern
from itscale.networks.masked_transformer import MaskedTransformer
from itscale.networks.shipped import with_weights

LETTERS = "ACGT"
LENGTH = 8
BASE_FACTOR, BASE_TILT = "HOXD13", 2.0
"""What the bundled network learned: probabilities proportional to exp(tilt times standardised binding)."""


def fresh_network() -> MaskedTransformer:
    """The network of ``dna`` before training."""
    return MaskedTransformer(vocabulary=len(LETTERS), length=LENGTH, width=48, layers=2, heads=4)


def load_dna() -> WrappedMasked:
    """Load the bundled masked model of sequences that HOXD13 binds; it decodes to texts."""
    return wrap_masked(
        with_weights(fresh_network(), "dna"),
        vocabulary=len(LETTERS),
        length=LENGTH,
        decode=spelled,
        pattern=Pattern(LETTERS, LENGTH, len(LETTERS)),
    )


def load_dna_uniform() -> Enumerable:
    """Load the law under which all 65,536 sequences are equally likely."""
    return Enumerable(torch.zeros((len(LETTERS),) * LENGTH))


def spelled(x: Int64[Tensor, "rows length"]) -> list[str]:
    """Sequences as texts."""
    return ["".join(LETTERS[i] for i in row) for row in x.tolist()]
