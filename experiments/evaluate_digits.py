"""Measure the published digit networks: the figures of their card, and the picture of samples.

    python -m itscale.experiments.evaluate_digits --data mnist10k.npz --figure docs/figures/digits-samples.png

Everything runs on the float16-rounded weights in the package. The judge's accuracy on samples is that of the
condition they were drawn under. Standard errors are binomial.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from itscale.experiments.train_digits import split
from torch import Tensor, nn

from itscale.models.bundled import load_digits
from itscale.networks.classifiers import load_classifier
from itscale.networks.unet import multiply_adds

PIXELS = 28 * 28


def heun(model, conditions: list, guidance: float, steps: int, generator: torch.Generator) -> Tensor:
    """Draw one image in [0, 1] per condition by Heun steps of the probability-flow ODE, equal in time."""
    guided = model.given(None, guidance)
    images = []
    for start in range(0, len(conditions), 250):
        rows = conditions[start : start + 250]
        x = torch.randn(len(rows), *model.event_shape, generator=generator)
        condition = guided.encode(rows)
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        for t, t_next in pairwise(times):
            dt = float(t_next - t)
            velocity = guided.predict(x, t, condition)
            ahead = guided.predict(x + dt * velocity, t_next, condition)
            x = x + dt / 2 * (velocity + ahead)
        images.append(guided.decode(x))
    return torch.cat(images)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets of features.

    Reference:
        Heusel et al. (2017), "GANs Trained by a Two Time-Scale Update Rule", arXiv:1706.08500, eq. (6).
    """
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariance_a + covariance_b - 2 * root))


def nearest(images: Tensor, to: Tensor) -> Tensor:
    """Root-mean-square distance of every image to the nearest of ``to``, under shifts of up to one pixel."""
    best = torch.full((len(images),), float("inf"))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            moved = torch.roll(F.pad(images, (1, 1, 1, 1)), (down, right), dims=(2, 3))[:, :, 1:-1, 1:-1]
            for start in range(0, len(images), 500):
                distance = torch.cdist(moved[start : start + 500].flatten(1), to.flatten(1)).min(dim=1).values
                best[start : start + 500] = torch.minimum(best[start : start + 500], distance)
    return best / PIXELS**0.5


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy with its standard error."""
    right = torch.cat([network(part).argmax(1) for part in images.split(500)]) == labels
    share = right.float().mean().item()
    return share, (share * (1 - share) / len(labels)) ** 0.5


def core_milliseconds_per_row(model, rows: int = 64, calls: int = 20) -> float:
    """Return the best of ``calls`` calls in milliseconds of one core: other programs hardly change it."""
    x, condition = torch.randn(rows, *model.event_shape), model.encode([3] * rows)
    t, best = torch.tensor(0.5, dtype=torch.float64), float("inf")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(calls):
        start = time.process_time()
        model.predict(x, t, condition)
        best = min(best, time.process_time() - start)
    torch.set_num_threads(threads)
    return 1e3 * best / rows


def grid(images: Tensor, path: str) -> None:
    """Save a hundred images as ten columns of digits 0 to 9, black on white at three times the size."""
    from PIL import Image

    tiles = (1 - F.pad(images, (2, 2, 2, 2))).reshape(10, 10, 32, 32).permute(0, 2, 1, 3).reshape(320, 320)
    picture = Image.fromarray((255 * tiles).round().to(torch.uint8).numpy())
    picture.resize((960, 960), Image.Resampling.LANCZOS).save(path, optimize=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="npz with images uint8 (10000, 28, 28) and labels")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0])
    parser.add_argument("--figure", help="where to save a ten by ten grid of the first samples")
    args = parser.parse_args()
    train, held_out = split(args.data)
    model, judge, steer = load_digits(), load_classifier("digit-judge"), load_classifier("digit-steer")
    real, seen = held_out.unit(), train.unit()
    figures: dict[str, object] = {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "multiply_adds": multiply_adds(
            model.network, torch.zeros(1, *model.event_shape), torch.tensor(0.5), torch.tensor([3])
        ),
        "core_ms_per_row": core_milliseconds_per_row(model),
        "judge_accuracy": accuracy(judge, real, held_out.labels),
        "steer_accuracy": accuracy(steer, real, held_out.labels),
    }
    features = {"held out": _features(judge, real), "train": _features(judge, seen)}
    shuffled = np.random.default_rng(args.seed).permutation(len(real))
    half = len(real) // 2
    figures["frechet_held_out_halves"] = frechet(
        features["held out"][shuffled[:half]], features["held out"][shuffled[half:]]
    )
    figures["frechet_train_2000_to_held_out"] = frechet(features["train"][: len(real)], features["held out"])
    quantiles = [0.0, 0.01, 0.1, 0.5, 0.9]
    figures["nearest_held_out"] = nearest(real, seen).quantile(torch.tensor(quantiles)).tolist()
    for guidance in args.guidance:
        generator = torch.Generator().manual_seed(args.seed)
        labels = held_out.labels[torch.randperm(len(real), generator=generator)[: args.samples]]
        labels[:100] = torch.arange(10).repeat(10)
        samples = heun(model, labels.tolist(), guidance, args.steps, generator)
        sampled = _features(judge, samples)
        figures[f"guidance_{guidance:g}"] = {
            "judge_accuracy": accuracy(judge, samples, labels),
            "steer_accuracy": accuracy(steer, samples, labels),
            "frechet_to_held_out": frechet(sampled, features["held out"]),
            "frechet_half_to_held_out_half": frechet(sampled[:half], features["held out"][shuffled[:half]]),
            "nearest": nearest(samples, seen).quantile(torch.tensor(quantiles)).tolist(),
        }
        if args.figure and guidance == args.guidance[0]:
            grid(samples[:100], args.figure)
    print(json.dumps(figures, indent=2))


def _features(judge: nn.Module, images: Tensor) -> np.ndarray:
    return torch.cat([judge.features(part) for part in images.split(500)]).double().numpy()


if __name__ == "__main__":
    main()
