"""Train the bundled masked models of molecules: ZINC-250k, and QM9 for tests.

    python -m itscale.experiments.train_molecules zinc --data zinc250k_smiles.txt.gz --out runs --minutes 60
    python -m itscale.experiments.train_molecules qm9 --data qm9_smiles.csv.gz --out runs --minutes 5
    python -m itscale.experiments.train_molecules publish --out runs

Molecules lose their stereo marks and become SELFIES of canonical SMILES, once; the tokens stay in ``--out``.
Every command resumes from its checkpoint there (``train_masked.py``). The learning rate is constant and falls
to zero over the last ``--decay`` minutes. ``evaluate_molecules.py`` then measures what was published.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from itscale.experiments.train_masked import add_arguments, train
from torch import Tensor

from itscale.models.molecules import MODELS, Spelling

HELD_OUT = 10_000


def smiles_in(path: Path) -> Iterator[str]:
    """Molecules of a file: one a line, or the column ``smiles`` of a table."""
    with gzip.open(path, "rt") as file:
        if path.name.endswith(".csv.gz"):
            yield from (row["smiles"] for row in csv.DictReader(file))
        else:
            yield from (line.strip() for line in file)


def flat_smiles(smiles: str) -> str | None:
    """Canonical SMILES without stereo marks; None where RDKit finds no molecule."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # pyright: ignore[reportAttributeAccessIssue]
    molecule = Chem.MolFromSmiles(smiles)
    return Chem.MolToSmiles(molecule, isomericSmiles=False) if molecule is not None else None


def tokens_of(path: Path, spelling: Spelling) -> Tensor:
    """All molecules of a file that the vocabulary and the length can hold, uint8 (molecules, length)."""
    rows = []
    for smiles in smiles_in(path):
        flat = flat_smiles(smiles)
        row = spelling.tokens_or_none(flat) if flat else None
        if row is not None:
            rows.append(np.array(row, dtype=np.uint8))
    return torch.from_numpy(np.stack(rows))


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Training molecules and 10,000 held-out ones, divided by the permutation of seed 0."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(tokens)))
    return tokens[order[HELD_OUT:]], tokens[order[:HELD_OUT]]


def prepared(name: str, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Training and held-out tokens, read from ``--out`` or made once."""
    file = Path(args.out) / f"{name}-tokens.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, tokens=tokens_of(Path(args.data), MODELS[name].spelling).numpy())
    with np.load(file) as saved:
        return split(torch.from_numpy(saved["tokens"]))


def publish(args: argparse.Namespace) -> None:
    """Copy the averaged weights in ``--out`` into the package."""
    for name, model in MODELS.items():
        file, to = Path(args.out) / f"{name}.safetensors", Path(args.weights) / f"{model.weights}.safetensors"
        if file.exists():
            shutil.copyfile(file, to)
            print(f"{to}: {to.stat().st_size} bytes")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=[*MODELS, "publish"])
    parser.add_argument("--data", help="zinc250k_smiles.txt.gz or qm9_smiles.csv.gz")
    parser.add_argument("--weights", default="itscale/networks/weights", help="folder that publish writes to")
    parser.add_argument("--layers", type=int, help="blocks of the network, if not those of the shipped one")
    add_arguments(parser)
    args = parser.parse_args()
    if args.command == "publish":
        publish(args)
        return
    if not args.data and not (Path(args.out) / f"{args.command}-tokens.npz").exists():
        parser.error("--data is needed once, to make the tokens")
    model = MODELS[args.command]
    model = model._replace(layers=args.layers or model.layers)
    train(args.command, model.network, model.spelling.vocabulary, *prepared(args.command, args), args)


if __name__ == "__main__":
    main()
