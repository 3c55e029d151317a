"""What rewards of molecules share: SMILES in, one number each, and a policy for what is no molecule."""

from __future__ import annotations

import importlib.util
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import torch

from itscale.errors import ConfigError, missing_extra
from itscale.scoring import Scores
from itscale.task_pool import Outcome, TaskPool

MOST_KEPT = 200_000


@dataclass(frozen=True)
class MoleculeReward:
    """A number per molecule, measured once for every canonical SMILES and remembered.

    A text that RDKit reads as a molecule with at least one atom is measured. Any other, the empty text too,
    gets ``invalid``; where that is None there is no score: on the way the last valid one stays, and a final
    sample without a score is never handed out as a good one. The cache saves time and changes no count: a
    run's reward calls are the samples it had scored.

    Args:
        invalid: the score of what is no molecule; None for no score.
        workers: processes that measure; 0 measures here.
        seconds: the longest that a process may take for a molecule, which then has no score.
    """

    invalid: float | None = field(default=0.0, kw_only=True)
    workers: int = field(default=0, kw_only=True)
    seconds: float = field(default=30.0, kw_only=True)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("rdkit") is None:
            raise missing_extra("rdkit", "molecules", f"reward {type(self).__name__}")
        if isinstance(self.workers, bool) or not isinstance(self.workers, int) or self.workers < 0:
            raise ConfigError(f"workers must be a whole number >= 0, got {self.workers!r}")
        if not self.seconds > 0:
            raise ConfigError(f"seconds must be above 0, got {self.seconds!r}")
        if self.invalid is not None and not math.isfinite(self.invalid):
            raise ConfigError(f"invalid must be a finite score, or None for none, got {self.invalid!r}")

    def measure(self, molecule: Any) -> float:
        """Return the number of one RDKit molecule."""
        raise NotImplementedError

    def __call__(self, smiles: Sequence[Any]) -> Scores:
        texts = [canonical_smiles(one) for one in smiles]
        fresh = [t for t in dict.fromkeys(texts) if t is not None and (self, t) not in _KEPT]
        found = dict(zip(fresh, self._measured(fresh), strict=True))
        for text, outcome in found.items():
            if not outcome.reason:
                _KEPT[self, text] = outcome.value
        values, valid, reasons = [], [], []
        for text in texts:
            if text is None:
                outcome = Outcome(self.invalid, "" if self.invalid is not None else "no molecule")
            else:
                outcome = found[text] if text in found else Outcome(_KEPT[self, text])
            values.append(math.nan if outcome.reason else outcome.value)
            valid.append(not outcome.reason)
            reasons.append(outcome.reason)
        while len(_KEPT) > MOST_KEPT:
            _KEPT.popitem(last=False)
        return Scores.of(
            torch.tensor(values, dtype=torch.float32),
            valid=torch.tensor(valid, dtype=torch.bool),
            reasons=reasons if any(reasons) else None,
        )

    def _measured(self, texts: list[str]) -> list[Outcome]:
        if self.workers:
            return _pool(self.workers, self.seconds).map([(self, text) for text in texts])
        return [self._measured_here(text) for text in texts]

    def _measured_here(self, text: str) -> Outcome:
        try:
            return Outcome(_measure((self, text)))
        except Exception as error:  # whatever a descriptor stumbles over, it is this molecule's
            return Outcome(None, f"{type(error).__name__}: {error}")


_KEPT: OrderedDict[tuple[MoleculeReward, str], float] = OrderedDict()


@cache
def _pool(workers: int, seconds: float) -> TaskPool:
    """One pool for all rewards of a process."""
    return TaskPool(_measure, workers, seconds)


def _measure(item: tuple[MoleculeReward, str]) -> float:
    reward, text = item
    return float(reward.measure(parsed(text)))


def canonical_smiles(given: Any) -> str | None:
    """Canonical SMILES of a text or an RDKit molecule; None for what is no molecule, or an empty one."""
    if isinstance(given, str):
        return _canonical(given)
    if hasattr(given, "GetNumAtoms"):
        from rdkit import Chem

        return _canonical(Chem.MolToSmiles(given))
    raise ConfigError(
        f"rewards of molecules score SMILES, got {type(given).__name__}; give a list of texts, or a model "
        "that decodes to SMILES"
    )


@lru_cache(maxsize=MOST_KEPT)
def _canonical(text: str) -> str | None:
    from rdkit import Chem

    molecule = parsed(text)
    return Chem.MolToSmiles(molecule) if molecule is not None else None


def parsed(text: str) -> Any:
    """The RDKit molecule of a SMILES text; None for what is none, or has no atom."""
    from rdkit import Chem

    _silence()
    molecule = Chem.MolFromSmiles(text) if text else None
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


@cache
def _silence() -> None:
    """RDKit reports every text that is no molecule; that is counted here already."""
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")  # pyright: ignore[reportAttributeAccessIssue]
