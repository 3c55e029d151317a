"""Measure a published model of molecules: the figures of its card, and a picture of properties.

    python -m itscale.experiments.evaluate_molecules zinc --tokens runs/zinc-tokens.npz --out runs/molecules \
        --figure docs/figures/molecules-properties.png

Unguided samples, one position a step, of the float16-rounded weights in the package, against molecules held
out of training. Their SMILES stay in ``--out``, where ``molecule_methods.py`` reads them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from itscale.experiments.train_molecules import split
from itscale.rewards.molecule import canonical_smiles, parsed

from itscale.models.loading import load
from itscale.models.molecules import MODELS
from itscale.runs.molecules import PROPERTIES, internal_diversity, properties
from itscale.sampling import sample


def scaffold(smiles: str) -> str:
    """Ring systems and what links them; empty without rings (Bemis and Murcko 1996)."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return MurckoScaffold.MurckoScaffoldSmiles(mol=parsed(smiles))


def table_of(smiles: list[str]) -> dict[str, np.ndarray]:
    """Properties of molecules, a column each."""
    rows = [properties(s) for s in smiles]
    return {name: np.array([row[name] for row in rows], dtype=float) for name in PROPERTIES}


def distances(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Per property, the distance of ``a`` from ``b`` in standard deviations of ``b``.

    ``frechet`` is the root of ``(difference of means)^2 + (difference of deviations)^2``, ``wasserstein`` the
    mean distance of quantiles.
    """
    found = {}
    at = (np.arange(1000) + 0.5) / 1000
    for name in PROPERTIES:
        x, y = a[name], b[name]
        scale = y.std()
        gap = np.hypot(x.mean() - y.mean(), x.std() - y.std())
        transport = np.abs(np.quantile(x, at) - np.quantile(y, at)).mean()
        found[name] = {
            "mean": float(x.mean()),
            "deviation": float(x.std()),
            "frechet": float(gap / scale),
            "wasserstein": float(transport / scale),
        }
    return found


def measure(name: str, texts: list[str], train: torch.Tensor, held_out: torch.Tensor) -> dict[str, Any]:
    """All figures of the card; ``texts`` are unguided samples."""
    spelling = MODELS[name].spelling
    canonical = [canonical_smiles(text) for text in texts]
    valid = [s for s in canonical if s is not None]
    known = {row.tobytes() for row in train.numpy()}
    spelled = [spelling.tokens_or_none(s) for s in set(valid)]
    new = [row is None or np.array(row, dtype=np.uint8).tobytes() not in known for row in spelled]
    count = 2 * len(texts)
    reference = [canonical_smiles(s) or "" for s in spelling(held_out[:count].long())]
    other, reference = reference[: len(texts)], reference[len(texts) :]
    real = table_of(reference)
    ours, theirs = Counter(map(scaffold, valid)), Counter(map(scaffold, reference))
    shared = sum(v for s, v in ours.items() if s in theirs)
    dot = sum(ours[s] * theirs[s] for s in ours)
    norm = (sum(v * v for v in ours.values()) * sum(v * v for v in theirs.values())) ** 0.5
    return {
        "samples": len(texts),
        "validity": len(valid) / len(texts),
        "uniqueness": len(set(valid)) / len(valid),
        "novelty": float(np.mean(new)),
        "internal diversity": float(internal_diversity([valid])[0]),
        "internal diversity of held-out": float(internal_diversity([reference])[0]),
        "properties": distances(table_of(valid), real),
        "held-out against held-out": distances(table_of(other), real),
        "held-out": {k: {"mean": float(v.mean()), "deviation": float(v.std())} for k, v in real.items()},
        "scaffolds": len(ours),
        "share of samples with a held-out scaffold": shared / len(valid),
        "the same for held-out": float(np.mean([scaffold(s) in theirs for s in other])),
        "cosine of scaffold counts": dot / norm,
    }


def draw(valid: list[str], reference: list[str], path: Path) -> None:
    """Histograms of samples and held-out molecules."""
    from itscale.runs.plots import new_figure
    from itscale.runs.plots_molecules import LABELS

    a, b = table_of(valid), table_of(reference)
    figure, axes = new_figure(13, 2.6, 1, len(PROPERTIES))
    for axis, name in zip(axes[0], PROPERTIES, strict=True):
        low, high = np.quantile(np.concatenate([a[name], b[name]]), [0.002, 0.998])
        edges = np.linspace(low, high, 25)
        axis.hist(b[name].clip(low, high), edges, density=True, color="#767676", alpha=0.4, label="held out")
        axis.hist(
            a[name].clip(low, high),
            edges,
            density=True,
            color="#0072B2",
            histtype="step",
            lw=2,
            label="sampled",
        )
        axis.set_xlabel(LABELS[name])
        axis.set_yticks([])
    axes[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("name", choices=list(MODELS))
    parser.add_argument("--tokens", required=True, help="NAME-tokens.npz of the training script")
    parser.add_argument("--out", required=True)
    parser.add_argument("--figure")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    result = sample(load(MODELS[args.name].weights), n=args.samples, seed=args.seed)
    seconds = time.process_time() - start
    texts = (result.texts or [[]])[0]
    (folder / f"{args.name}-samples.smi").write_text("".join(f"{text}\n" for text in texts))
    with np.load(args.tokens) as file:
        train, held_out = split(torch.from_numpy(file["tokens"]))
    figures = {
        "core seconds a molecule": seconds / args.samples,
        **measure(args.name, texts, train, held_out),
    }
    (folder / f"{args.name}-figures.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))
    if args.figure:
        reference = MODELS[args.name].spelling(held_out[: args.samples].long())
        draw([t for t in texts if canonical_smiles(t)], [r for r in reference if r], Path(args.figure))


if __name__ == "__main__":
    main()
