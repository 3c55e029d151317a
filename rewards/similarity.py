"""Likeness to molecules that are known, and difference from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from itscale.errors import ConfigError

from .declare import built_in
from .molecule import MoleculeReward, canonical_smiles, parsed


@built_in("similarity")
@dataclass(frozen=True)
class Similarity(MoleculeReward):
    """Largest Tanimoto similarity to reference molecules, 0 to 1.

    Fingerprints are Morgan's, of bonds up to ``radius`` away, folded to ``bits``.

    Args:
        reference: SMILES of one molecule, or several.
        radius: of the neighbourhoods.
        bits: of a fingerprint.

    Raises:
        ConfigError: naming the reference that is no molecule.

    Reference:
        Rogers and Hahn (2010), "Extended-Connectivity Fingerprints", J. Chem. Inf. Model. 50:742.
    """

    reference: str | Sequence[str] = ()
    radius: int = 2
    bits: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.lower()
        texts = (self.reference,) if isinstance(self.reference, str) else tuple(self.reference)
        if not texts:
            raise ConfigError(f"reward {name!r} needs reference=, the SMILES of one molecule or several")
        for field in ("radius", "bits"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"reward {name!r}: {field} must be a whole number >= 1, got {value!r}")
        for text in texts:
            if not isinstance(text, str) or canonical_smiles(text) is None:
                raise ConfigError(f"reward {name!r}: reference {text!r} is no SMILES of a molecule")
        object.__setattr__(self, "reference", texts)  # hashable, for the cache

    def measure(self, molecule: Any) -> float:
        from rdkit import DataStructs

        known = _fingerprints(tuple(self.reference), self.radius, self.bits)
        here = _generator(self.radius, self.bits).GetFingerprint(molecule)
        return max(DataStructs.BulkTanimotoSimilarity(here, known))


@built_in("novelty")
@dataclass(frozen=True)
class Novelty(Similarity):
    """One minus the largest Tanimoto similarity to reference molecules, 0 to 1."""

    def measure(self, molecule: Any) -> float:
        return 1.0 - super().measure(molecule)


@cache
def _generator(radius: int, bits: int) -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)


@cache
def _fingerprints(texts: tuple[str, ...], radius: int, bits: int) -> list[Any]:
    return [_generator(radius, bits).GetFingerprint(parsed(text)) for text in texts]
