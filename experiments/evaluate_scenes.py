"""Measure the published scene networks: the figures of their card, and the picture of samples.

    python -m itscale.experiments.evaluate_scenes --figure docs/figures/scenes-samples.png

Everything runs on the float16-rounded weights in the package. A prompt is satisfied if the scene holds just
its objects and keeps its relation; ``scene-match`` and ``scene-judge`` say so in two unlike ways. Standard
errors are binomial.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F
from itscale.experiments.evaluate_digits import core_milliseconds_per_row, heun
from torch import Tensor

from itscale.models.bundled import load_scenes
from itscale.networks.unet import multiply_adds
from itscale.scenes import BENCHMARK, BENCHMARK_PROMPTS, encode, find, parse, random_prompts, random_scenes
from itscale.scoring import as_reward

QUANTILES = torch.tensor([0.0, 0.01, 0.1, 0.5, 0.9])
JUDGES = ("scene-match", "scene-judge")


def share(values: Tensor) -> tuple[float, float]:
    """Return the share of ones with its standard error."""
    mean = values.double().mean().item()
    return round(mean, 4), round((mean * (1 - mean) / len(values)) ** 0.5, 4)


def verdicts(images: Tensor, prompts: list) -> dict[str, Tensor]:
    """Return what each judge says, 1 or 0 per image."""
    return {name: as_reward(name).score(images, {"conditions": prompts}).values for name in JUDGES}


def clean(scenes_count: int, seed: int) -> dict[str, object]:
    """The judges on generated scenes: right prompts accepted, wrong prompts refused."""
    draws = np.random.default_rng(seed)
    scenes = random_scenes(random_prompts(scenes_count, draws), draws)
    images, others = scenes.images(), random_prompts(scenes_count, draws)
    differs = torch.tensor([a.counts != b.counts for a, b in zip(scenes.prompts, others, strict=True)])
    right, wrong = verdicts(images, list(scenes.prompts)), verdicts(images, others)
    return {
        name: {"accepted": share(right[name]), "refused": share(1 - wrong[name][differs])} for name in JUDGES
    }


def satisfied(images: Tensor, prompts: list[str]) -> dict[str, object]:
    """Satisfaction by group of prompts, agreement of the judges, and the mean error of the counts."""
    said = verdicts(images, prompts)
    figures: dict[str, object] = {}
    for group, texts in BENCHMARK.items():
        here = torch.tensor([prompt in texts for prompt in prompts])
        figures[group] = {name: share(said[name][here]) for name in JUDGES}
    figures["all"] = {name: share(said[name]) for name in JUDGES}
    figures["agreement"] = share((said["scene-match"] == said["scene-judge"]).float())
    each = [said["scene-match"][torch.tensor([p == text for p in prompts])] for text in BENCHMARK_PROMPTS]
    figures["by_prompt"] = {t: share(v)[0] for t, v in zip(BENCHMARK_PROMPTS, each, strict=True)}
    found, wanted = find(images), torch.tensor([parse(prompt).counts for prompt in prompts])
    figures["count_error"] = ((found.counts - wanted).abs().sum(dim=1) + found.odd).double().mean().item()
    figures["odd_regions"] = found.odd.double().mean().item()
    return figures


def spread(images: Tensor) -> float:
    """Root-mean-square distance between images of one prompt, averaged: ``images`` is (prompts, n, ...)."""
    n = images.shape[1]
    flat = images.flatten(2)
    squared = torch.cdist(flat, flat).square().sum(dim=(1, 2)) / (n * (n - 1)) / flat.shape[2]
    return squared.mean().sqrt().item()


def nearest(images: Tensor, to: Tensor) -> Tensor:
    """Root-mean-square distance of each image to the nearest of ``to``."""
    parts = [torch.cdist(part.flatten(1), to.flatten(1)).min(dim=1).values for part in images.split(200)]
    return torch.cat(parts) / images[0].numel() ** 0.5


def grid(images: Tensor, path: str) -> None:
    """Save images (rows, columns, 3, 32, 32) at twice the size."""
    from PIL import Image

    rows, columns = images.shape[:2]
    tiles = F.pad(images, (1, 1, 1, 1), value=1.0).repeat_interleave(2, -1).repeat_interleave(2, -2)
    pixels = tiles.permute(0, 3, 1, 4, 2).reshape(rows * 68, columns * 68, 3)
    Image.fromarray((255 * pixels).round().to(torch.uint8).numpy()).save(path, optimize=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--per-prompt", type=int, default=32, help="samples of each benchmark prompt")
    parser.add_argument("--steps", type=int, default=20, help="Heun steps, two evaluations each")
    parser.add_argument("--clean", type=int, default=10_000, help="generated scenes to try the judges on")
    parser.add_argument("--reference", type=int, default=10_000, help="generated scenes as neighbours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--figure", help="where to save samples, a row for each third benchmark prompt")
    args = parser.parse_args()
    model = load_scenes()
    draws = np.random.default_rng(args.seed)
    n = args.per_prompt
    prompts = [text for text in BENCHMARK_PROMPTS for _ in range(n)]
    figures: dict[str, object] = {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "multiply_adds": multiply_adds(
            model.network, torch.zeros(1, *model.event_shape), torch.tensor(0.5), encode([None])
        ),
        "core_ms_per_row": core_milliseconds_per_row(model),
        "clean": clean(args.clean, args.seed),
    }
    parsed = [parse(text) for text in prompts]
    reference = random_scenes(random_prompts(args.reference, draws), draws).images()
    fresh = random_scenes(parsed, draws).images()
    figures["generated"] = {
        "spread": spread(fresh.unflatten(0, (-1, n))),
        "nearest": nearest(fresh, reference).quantile(QUANTILES).tolist(),
    }
    for guidance in args.guidance:
        generator = torch.Generator().manual_seed(args.seed)
        samples = heun(model, prompts, guidance, args.steps, generator)
        figures[f"guidance_{guidance:g}"] = {
            **satisfied(samples, prompts),
            "spread": spread(samples.unflatten(0, (-1, n))),
            "nearest": nearest(samples, reference).quantile(QUANTILES).tolist(),
        }
        if args.figure and guidance == args.guidance[0]:
            grid(samples.unflatten(0, (-1, n))[::3, :10], args.figure)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
