"""Make the profiles that ship with the bundled models: one set of trajectories, every built-in reward.

    python -m itscale.experiments.make_profiles digits
    python -m itscale.experiments.make_profiles scenes

The files in ``itscale/sampling/profiles`` are found by the weights of the network, the process and the
reward; new weights need new files.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itscale.models import load
from itscale.models.image_flow import ImageFlow
from itscale.preparation import prepare
from itscale.process import SDE
from itscale.sampling import sample
from itscale.sampling.pilots import recorded
from itscale.sampling.shipped import fingerprint, process_text, write
from itscale.scenes.benchmark import BENCHMARK_PROMPTS
from itscale.scoring import Reward, as_reward

STEPS = 50
FOLDER = Path(__file__).resolve().parents[1] / "itscale" / "sampling" / "profiles"
IMAGES = (
    "brightness",
    "contrast",
    "ink",
    "jpeg-compressibility",
    "jpeg-incompressibility",
    "smoothness",
    "total-variation",
    "symmetry",
    "symmetry(axis='v')",
    "symmetry(axis='both')",
    "symmetry(rotation=2)",
)
REWARDS = {
    "digits": ("digit", *IMAGES),
    "scenes": ("scene-count", "scene-relation", "scene-match", *IMAGES),
}
CONDITIONS: dict[str, list[Any]] = {"digits": list(range(10)), "scenes": list(BENCHMARK_PROMPTS)}
TRAJECTORIES = {"digits": 32, "scenes": 12}


class Album:
    """Takes every batch of images that it is asked to score, and scores nothing."""

    def __init__(self) -> None:
        self.pages: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.pages.append(images.clone())
        return images.mean((1, 2, 3))


def make(name: str) -> Path:
    model, album = load(name), Album()
    assert isinstance(model, ImageFlow)
    conditions = CONDITIONS[name]
    draw = functools.partial(
        sample,
        model,
        reward=Reward.of(album, name="album", modality="image"),
        steps=STEPS,
        process=SDE(),
        seed=5,
    )
    groups = list(range(len(conditions)))
    drawn = recorded(draw, groups, conditions, TRAJECTORIES[name]).profile()
    rounds = torch.tensor([len(page) for page in album.pages])
    assert (rounds == TRAJECTORIES[name]).all(), "one batch a look"
    pages = [album.pages[i : i + STEPS] for i in range(0, len(album.pages), STEPS)]
    profiles, versions = [], {}
    for expression in REWARDS[name]:
        reward = as_reward(expression)
        scores = [
            torch.stack([_scores(reward, page, condition) for page in book], -1)
            for book, condition in zip(pages, conditions, strict=True)
        ]
        profiles.append(drawn.with_reward(torch.stack(scores).double(), reward.name))
        versions[reward.name] = reward.spec.version
        print(f"{reward.name}: squared correlation {profiles[-1].correlation[STEPS // 2]:.2f} at half time")
    source = f"shipped with {name}: {TRAJECTORIES[name]} trajectories of {len(conditions)} conditions"
    process = process_text(prepare(model, process=SDE(), steps=STEPS).process)
    profiles = [replace(profile, model=name, process=process, source=source) for profile in profiles]
    return write(FOLDER / f"{name}.json", profiles, versions, fingerprint=fingerprint(model.network))


def _scores(reward: Reward, images: Tensor, condition: Any) -> Tensor:
    scores = reward.score(images, {"conditions": [condition] * len(images)})
    return torch.where(scores.valid, scores.values, torch.nan)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("model", choices=REWARDS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(make(args.model))


if __name__ == "__main__":
    main()
