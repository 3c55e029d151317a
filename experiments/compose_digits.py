"""Compositions of the digits model: products of two digits, annealing, and guidance, with weights and
without.

    python -m itscale.experiments.compose_digits --data mnist10k.npz [--part guidance products annealing]

Each part takes some minutes of one core. Prints one JSON line per law and writes them, with a figure per
part, into ``--out``. Corrected samples are drawn by weight from groups of particles; uncorrected ones follow
the same drift from the same noise. The judge is a classifier that steers nothing.

- accuracy: the judge names a digit of the law; confidence: the probability that it gives to these digits;
  balance: to the less likely of the two of a product.
- diversity: mean root-mean-square distance per pixel between samples of different groups, within a law.
- frechet: squared Frechet distance of the judge's features to those of held-out digits of the same classes.
- ess: effective share of the particles, the least of a run and at its end; kept: share of first particles
  that have descendants.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from itscale.experiments.evaluate_digits import frechet
from itscale.experiments.train_digits import split
from torch import Tensor

from itscale import compose
from itscale.methods import FKC
from itscale.models import load
from itscale.networks.classifiers import load_classifier
from itscale.pools import Local
from itscale.process import SDE
from itscale.result import Result
from itscale.sampling import sample

MOMENTS = {"mean": -0.73, "variance": 0.38}  # of the digits' pixels in [-1, 1]
CLASSES = tuple(range(10))


class Judge:
    """The classifier, with the features of held-out digits."""

    def __init__(self, data: str) -> None:
        self.network: Any = load_classifier("digit-judge")
        _, held_out = split(data)
        self.features = self._features(held_out.unit())
        self.labels = held_out.labels

    def _features(self, images: Tensor) -> Tensor:
        return torch.cat([self.network.features(part) for part in images.split(500)]).double()

    def marks(self, images: Tensor, digits: Tensor) -> dict[str, float]:
        """How images (groups, n, 1, 28, 28) of one law do; ``digits`` (rows, k) are those of the law."""
        flat = images.flatten(0, 1)
        features = self._features(flat)
        probabilities = self.network.head(features.float()).softmax(1)
        wanted = probabilities.gather(1, digits)
        named = (probabilities.argmax(1)[:, None] == digits).any(1)
        found = {"accuracy": float(named.float().mean()), "confidence": float(wanted.sum(1).mean())}
        if digits.shape[1] > 1:
            found["balance"] = float(wanted.min(1).values.mean())
        return found

    def distance(self, images: Tensor, classes: tuple[int, ...]) -> float:
        """Frechet distance to held-out digits of these classes."""
        real = self.features[torch.isin(self.labels, torch.tensor(classes))]
        return frechet(self._features(images).numpy(), real.numpy())


def diversity(images: Tensor) -> float:
    """Mean distance between images (groups, n, ...) of different groups, per pixel."""
    groups = images.shape[0]
    flat = images.flatten(2)
    apart = (
        torch.cdist(flat.flatten(0, 1), flat.flatten(0, 1))
        .unflatten(0, (groups, -1))
        .unflatten(2, (groups, -1))
    )
    mean = apart.mean(dim=(1, 3))  # over samples of both groups
    return float(mean[~torch.eye(groups, dtype=torch.bool)].mean()) / flat.shape[2] ** 0.5


def run(law: Any, particles: int, groups: int, steps: int, uncorrected: int | None = None) -> Result:
    aside = particles if uncorrected is None else uncorrected
    return sample(
        law,
        method=FKC(particles=particles, uncorrected=aside),
        groups=groups,
        steps=steps,
        process=SDE(),
        pool=Local(microbatch=128),
    )


def weights_of(results: list[Result]) -> dict[str, float]:
    """What the weights of runs came to."""
    ess = torch.stack([r.ess for r in results]) / results[0].particles
    kept = [len(g.unique()) / r.particles for r in results for g in r.lineage()[0]]
    return {
        "least_ess": float(ess.amin(dim=1).mean()),
        "last_ess": float(ess[:, -1].mean()),
        "kept": sum(kept) / len(kept),
        "warnings": sum(len(r.warnings) for r in results),
    }


def present(samples: Tensor | None) -> Tensor:
    assert samples is not None, "the method keeps uncorrected particles"
    return samples


def both(
    results: list[Result], judge: Judge, digits: list[tuple[int, ...]], classes: tuple[int, ...]
) -> Iterator[Any]:
    """The marks of corrected and uncorrected samples of runs, one of a law each."""
    for name in ("uncorrected", "corrected"):
        images = [r.resample() if name == "corrected" else present(r.uncorrected) for r in results]
        marks = [
            judge.marks(x, torch.tensor(d).expand(x.shape[0] * x.shape[1], -1))
            for x, d in zip(images, digits, strict=True)
        ]
        mean = {key: sum(m[key] for m in marks) / len(marks) for key in marks[0]}
        mean["diversity"] = sum(map(diversity, images)) / len(images)
        mean["frechet"] = judge.distance(torch.cat([x.flatten(0, 1) for x in images]), classes)
        yield name, mean, images


def guidance(judge: Judge) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    """``p(x | c)^w p(x)^(1 - w)`` for all digits c."""
    model: Any = load("digits")
    for weight in (1.0, 2.0, 4.0, 8.0):
        laws = [compose.guidance(model.given(c), model, weight) for c in CLASSES]
        results = [run(law, 16, 2, 20) for law in laws]
        for name, marks, images in both(results, judge, [(c,) for c in CLASSES], CLASSES):
            row = {
                "law": f"guidance {weight:g}",
                "value": weight,
                "sampler": name,
                **marks,
                **weights_of(results),
            }
            yield row, [x[0, 0] for x in images]


def annealing(judge: Judge) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    """``p(x | c)^beta`` for all digits c."""
    model: Any = load("digits")
    for power in (0.9, 1.1, 1.25, 1.5):
        laws = [(model.given(c) ** power).corrected(**MOMENTS) for c in CLASSES]
        results = [run(law, 16, 2, 20) for law in laws]
        for name, marks, images in both(results, judge, [(c,) for c in CLASSES], CLASSES):
            row = {"law": f"power {power:g}", "value": power, "sampler": name, **marks, **weights_of(results)}
            yield row, [x[0, 0] for x in images]


def products(judge: Judge) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    """``p(x | 3)^a p(x | 5)^b``, and the superpositions of the two."""
    model: Any = load("digits")
    three, five = model.given(3), model.given(5)
    for a, b in ((0.3, 0.7), (0.5, 0.5), (0.6, 0.6), (1.0, 1.0)):
        results = [run((three**a * five**b).corrected(**MOMENTS), 32, 8, 20)]
        for name, marks, images in both(results, judge, [(3, 5)], (3, 5)):
            row = {"law": f"p(x|3)^{a:g} p(x|5)^{b:g}", "sampler": name, **marks, **weights_of(results)}
            yield row, list(images[0].flatten(0, 1)[::25][:10])
    for name, law in (("p(x|3) or p(x|5)", three | five), ("p(x|3) = p(x|5)", three & five)):
        images = sample(law, n=16, groups=8, steps=20, process=SDE(), pool=Local(microbatch=128)).samples
        marks = judge.marks(images, torch.tensor([3, 5]).expand(128, -1))
        marks = {
            **marks,
            "diversity": diversity(images),
            "frechet": judge.distance(images.flatten(0, 1), (3, 5)),
        }
        yield {"law": name, "sampler": "superposition", **marks}, list(images.flatten(0, 1)[::13][:10])


PARTS = {"guidance": guidance, "products": products, "annealing": annealing}


def draw(rows: list[tuple[dict[str, Any], list[Tensor]]], path: Path) -> None:
    """Save samples of every law and sampler, a line each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.78 * len(rows) + 0.2), layout="constrained")
    axes = figure.subplots(len(rows), 10)
    for line, (row, images) in zip(axes, rows, strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(1 - image[0], cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(f"{row['law']}\n{row['sampler']}", rotation=0, ha="right", va="center", fontsize=8)
    figure.savefig(path, dpi=110)


@torch.no_grad()
def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", required=True, help="npz with images uint8 (10000, 28, 28) and labels")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    judge = Judge(args.data)
    for part in args.part:
        found, started = [], time.process_time()
        with (args.out / f"compose-{part}.jsonl").open("w", encoding="utf-8") as file:
            for row, images in PARTS[part](judge):
                found.append((row, images))
                rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
                text = json.dumps({**rounded, "seconds": round(time.process_time() - started)})
                print(text, flush=True)
                file.write(text + "\n")
        draw(found, args.out / f"compose-{part}.png")


if __name__ == "__main__":
    main()
