"""Molecules of a run: their properties, drawings and files. RDKit is loaded when used."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.result import Result
from itscale.rewards.drug_likeness import sa_score  # pyright: ignore[reportMissingImports]
from itscale.rewards.molecule import canonical_smiles, parsed  # pyright: ignore[reportMissingImports]
from itscale.runs.records import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from itscale.runs.cells import Cell

PROPERTIES = ("qed", "synthesizability", "logp", "weight", "rings")


def properties(smiles: str) -> dict[str, float | None]:
    """QED, ease of synthesis, logP, weight and number of rings; None of each for what is no molecule."""
    molecule = parsed(smiles)
    if molecule is None:
        return dict.fromkeys(PROPERTIES)
    from rdkit.Chem import QED, Crippen, rdMolDescriptors

    return {
        "qed": QED.qed(molecule),
        "synthesizability": (10 - sa_score(molecule)) / 9,
        "logp": Crippen.MolLogP(molecule),  # pyright: ignore[reportAttributeAccessIssue]
        "weight": rdMolDescriptors._CalcMolWt(molecule),
        "rings": float(rdMolDescriptors.CalcNumRings(molecule)),
    }


def molecule_properties(texts: Sequence[Sequence[str]] | None) -> list[list[dict[str, Any]]] | None:
    """Canonical SMILES and properties of every sample, by group."""
    if texts is None:
        return None
    return [[{"smiles": canonical_smiles(t), "properties": properties(t)} for t in group] for group in texts]


def internal_diversity(texts: Sequence[Sequence[str]]) -> Float64[Tensor, " g"]:
    """One minus the mean Tanimoto similarity of two molecules of a group; NaN for fewer than two.

    Fingerprints are Morgan's, radius 2, 2,048 bits. Samples that are equal count as often as they occur.
    """
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    found = []
    for group in texts:
        molecules = [m for m in map(parsed, group) if m is not None]
        prints = [generator.GetFingerprint(m) for m in molecules]
        n = len(prints)
        alike = sum(sum(DataStructs.BulkTanimotoSimilarity(prints[i], prints[:i])) for i in range(1, n))
        found.append(1 - 2 * alike / (n * (n - 1)) if n > 1 else torch.nan)
    return torch.tensor(found, dtype=torch.float64)


def drawing(smiles: str, side: int = 300) -> Any:
    """A molecule as a PIL image, or an empty one."""
    from PIL import Image
    from rdkit.Chem.Draw import rdMolDraw2D

    molecule = parsed(smiles)
    if molecule is None:
        return Image.new("RGB", (side, side), "white")
    drawer = rdMolDraw2D.MolDraw2DCairo(side, side)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule)
    drawer.FinishDrawing()
    return Image.open(io.BytesIO(drawer.GetDrawingText()))


def save_molecules(folder: Path, cell: Cell, result: Result) -> None:
    """Write all distinct molecules of a cell, best first, as ``molecules/NAME.smi`` and ``.sdf``.

    A line of the first is SMILES, a name and the reward; the second has flat coordinates and the properties.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    best: dict[str, tuple[float, str]] = {}
    for g, group in enumerate(cell.groups):
        for slot, text in enumerate((result.texts or [])[g]):
            smiles, reward = canonical_smiles(text), float(result.rewards[g, slot])
            if smiles is not None and (smiles not in best or reward > best[smiles][0]):
                best[smiles] = (reward, f"seed{cell.run.seed}-{group}-{slot}")
    (folder / "molecules").mkdir(exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", cell.label.lower()).strip("-")[:48]
    path = folder / "molecules" / f"{slug}_{cell.key[:6]}.smi"
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))
    write_text(path, "".join(f"{smiles}\t{name}\t{reward:.6g}\n" for smiles, (reward, name) in ranked))
    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        for smiles, (reward, name) in ranked:
            molecule = parsed(smiles)
            rdDepictor.Compute2DCoords(molecule)
            molecule.SetProp("_Name", name)
            molecule.SetProp("SMILES", smiles)
            molecule.SetDoubleProp("reward", reward)
            for key, value in properties(smiles).items():
                molecule.SetDoubleProp(key, float(value or 0.0))
            writer.write(molecule)
    write_text(path.with_suffix(".sdf"), text.getvalue())
