"""Substructures that a molecule should not have, or should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from itscale.errors import ConfigError

from .declare import built_in, check_choice
from .molecule import MoleculeReward

CATALOGS = ("PAINS", "PAINS_A", "PAINS_B", "PAINS_C", "BRENK", "NIH", "ZINC", "CHEMBL")


@built_in("no-alerts")
@dataclass(frozen=True)
class NoAlerts(MoleculeReward):
    """1 for a molecule without a structural alert, 0 with one.

    PAINS fool many assays, Brenk's list is reactive or unstable.

    Args:
        catalogs: names of RDKit's lists, by default PAINS and BRENK.

    Reference:
        Baell and Holloway (2010), J. Med. Chem. 53:2719 (PAINS); Brenk et al. (2008), ChemMedChem 3:435.
    """

    catalogs: str | Sequence[str] = ("PAINS", "BRENK")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = (self.catalogs,) if isinstance(self.catalogs, str) else tuple(self.catalogs)
        names = tuple(str(name).upper() for name in names)
        if not names:
            raise ConfigError(f"reward 'no-alerts' needs at least one of {', '.join(CATALOGS)}")
        for name in names:
            check_choice("no-alerts", "catalogs", name, CATALOGS)
        object.__setattr__(self, "catalogs", names)

    def measure(self, molecule: Any) -> float:
        return 0.0 if _catalog(tuple(self.catalogs)).HasMatch(molecule) else 1.0


@built_in("substructure")
@dataclass(frozen=True)
class Substructure(MoleculeReward):
    """1 for a molecule that has a substructure, 0 for one that has not.

    Args:
        smarts: the pattern.

    Raises:
        ConfigError: for a text that is no SMARTS.
    """

    smarts: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.smarts or _pattern(self.smarts) is None:
            raise ConfigError(f"reward 'substructure': smarts={self.smarts!r} is no SMARTS pattern")

    def measure(self, molecule: Any) -> float:
        return float(molecule.HasSubstructMatch(_pattern(self.smarts)))


@cache
def _catalog(names: tuple[str, ...]) -> Any:
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    params = FilterCatalogParams()
    for name in names:
        params.AddCatalog(getattr(FilterCatalogParams.FilterCatalogs, name))
    return FilterCatalog(params)


@cache
def _pattern(smarts: str) -> Any:
    from rdkit import Chem

    return Chem.MolFromSmarts(smarts)
