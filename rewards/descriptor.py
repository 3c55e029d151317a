"""Descriptors of molecules as they are, or as the wish for a window."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from itscale.errors import ConfigError

from .declare import built_in
from .molecule import MoleculeReward


@dataclass(frozen=True)
class Descriptor(MoleculeReward):
    """A descriptor; with ``low`` or ``high`` the wish that it lie in that window.

    The wish is 1 inside and ``exp(-(d / width)^2 / 2)`` at a distance ``d`` outside.

    Args:
        low: lower end of the window; None for none.
        high: upper end; None for none. Without both, the score is the descriptor.
        width: how fast the wish fades outside.
        invalid: None for the descriptor itself, 0 for a wish.
    """

    low: float | None = None
    high: float | None = None
    width: float = 1.0
    invalid: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        ends = [end for end in (self.low, self.high) if end is not None]
        if not all(isinstance(end, (int, float)) and math.isfinite(end) for end in ends):
            raise ConfigError(f"{name}: low and high must be finite numbers, got {self.low!r}, {self.high!r}")
        if ends and ends != sorted(ends):
            raise ConfigError(f"{name}: low={self.low} is above high={self.high}; swap them")
        if not self.width > 0:
            raise ConfigError(f"{name}: width must be above 0, got {self.width!r}")
        if ends and self.invalid is None:
            object.__setattr__(self, "invalid", 0.0)

    def value(self, molecule: Any) -> float:
        """Return the descriptor of an RDKit molecule."""
        raise NotImplementedError

    def measure(self, molecule: Any) -> float:
        x = float(self.value(molecule))
        if self.low is None and self.high is None:
            return x
        below = self.low - x if self.low is not None else 0.0
        above = x - self.high if self.high is not None else 0.0
        return math.exp(-((max(below, above, 0.0) / self.width) ** 2) / 2)


@built_in("logp")
@dataclass(frozen=True)
class LogP(Descriptor):
    """Octanol-water partition, log10, by atom contributions.

    Reference:
        Wildman and Crippen (1999), "Prediction of Physicochemical Parameters by Atomic Contributions",
        J. Chem. Inf. Comput. Sci. 39:868.
    """

    def value(self, molecule: Any) -> float:
        from rdkit.Chem import Crippen

        return Crippen.MolLogP(molecule)  # pyright: ignore[reportAttributeAccessIssue]


@built_in("tpsa")
@dataclass(frozen=True)
class TPSA(Descriptor):
    """Topological polar surface in square angstroms.

    Reference:
        Ertl, Rohde and Selzer (2000), J. Med. Chem. 43:3714.
    """

    width: float = 20.0

    def value(self, molecule: Any) -> float:
        from rdkit.Chem import rdMolDescriptors

        return rdMolDescriptors.CalcTPSA(molecule)


@built_in("molecular-weight")
@dataclass(frozen=True)
class MolecularWeight(Descriptor):
    """Mass of a molecule in daltons, hydrogens included."""

    width: float = 50.0

    def value(self, molecule: Any) -> float:
        from rdkit.Chem import rdMolDescriptors

        return rdMolDescriptors._CalcMolWt(molecule)


@built_in("rings")
@dataclass(frozen=True)
class Rings(Descriptor):
    """Number of rings, the smallest set that spans them all."""

    def value(self, molecule: Any) -> float:
        from rdkit.Chem import rdMolDescriptors

        return rdMolDescriptors.CalcNumRings(molecule)


@built_in("rotatable-bonds")
@dataclass(frozen=True)
class RotatableBonds(Descriptor):
    """Number of bonds that turn freely."""

    def value(self, molecule: Any) -> float:
        from rdkit.Chem import rdMolDescriptors

        return rdMolDescriptors.CalcNumRotatableBonds(molecule)


@built_in("hydrogen-donors")
@dataclass(frozen=True)
class HydrogenDonors(Descriptor):
    """Number of hydrogen-bond donors."""

    def value(self, molecule: Any) -> float:
        from rdkit.Chem import rdMolDescriptors

        return rdMolDescriptors.CalcNumHBD(molecule)


@built_in("hydrogen-acceptors")
@dataclass(frozen=True)
class HydrogenAcceptors(Descriptor):
    """Number of hydrogen-bond acceptors."""

    def value(self, molecule: Any) -> float:
        from rdkit.Chem import rdMolDescriptors

        return rdMolDescriptors.CalcNumHBA(molecule)
