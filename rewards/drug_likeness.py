"""How much a molecule looks like a drug, and how easily it could be made."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .declare import built_in
from .molecule import MoleculeReward


@built_in("qed")
@dataclass(frozen=True)
class QED(MoleculeReward):
    """Quantitative estimate of drug-likeness, 0 to 1: the geometric mean of eight desirabilities.

    About a millisecond a molecule, most of it in searching structural alerts.

    Reference:
        Bickerton et al. (2012), "Quantifying the chemical beauty of drugs", Nature Chemistry 4:90.
    """

    def measure(self, molecule: Any) -> float:
        from rdkit.Chem import QED as rdkit_qed

        return rdkit_qed.qed(molecule)


@built_in("synthesizability")
@dataclass(frozen=True)
class Synthesizability(MoleculeReward):
    """Ease of synthesis, ``(10 - SA) / 9``: 1 easy, 0 hard.

    SA is the synthetic accessibility score, 1 easy to 10 hard, of fragments that are common in PubChem, less
    for size, stereo centres, spiro atoms, bridgeheads and large rings.

    Reference:
        Ertl and Schuffenhauer (2009), "Estimation of synthetic accessibility score of drug-like molecules",
        J. Cheminformatics 1:8.
    """

    def measure(self, molecule: Any) -> float:
        return min(1.0, max(0.0, (10 - sa_score(molecule)) / 9))


@built_in("penalized-logp")
@dataclass(frozen=True)
class PenalizedLogP(MoleculeReward):
    """``logP - SA - (size of the largest ring - 6)+``: unbounded, and easily driven to absurd molecules.

    Reference:
        Gomez-Bombarelli et al. (2018), arXiv:1610.02415; clip it, or use a window on ``logp``.
    """

    invalid: float | None = field(default=None, kw_only=True)

    def measure(self, molecule: Any) -> float:
        from rdkit.Chem import Crippen

        rings = [len(ring) for ring in molecule.GetRingInfo().AtomRings()]
        excess = max(0, max(rings, default=0) - 6)
        return Crippen.MolLogP(molecule) - sa_score(molecule) - excess  # pyright: ignore[reportAttributeAccessIssue]


def sa_score(molecule: Any) -> float:
    """Synthetic accessibility of an RDKit molecule, 1 easy to 10 hard."""
    return _scorer().calculateScore(molecule)


@cache
def _scorer() -> Any:
    """The module that RDKit ships among its contributions, outside of its package."""
    from rdkit import RDConfig

    folder = str(Path(RDConfig.RDContribDir) / "SA_Score")
    sys.path.append(folder)
    try:
        import sascorer  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.remove(folder)
    return sascorer
