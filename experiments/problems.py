"""Models with rewards to steer by and to judge with, for studies of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itscale.methods import Unguided
from itscale.models import GaussianMixture, load
from itscale.sampling import sample
from itscale.scenes import BENCHMARK_PROMPTS
from itscale.scoring import as_reward
from itscale.scoring import reward as reward_of


@dataclass(frozen=True)
class Problem:
    """A model with a reward to steer by and one to judge with.

    Attributes:
        conditions: one per group.
        check: a verdict on the answers, 1 or 0, that is reported beside the reward.
    """

    name: str
    model: Any
    reward: Any
    held_out: Any
    conditions: list[Any]
    check: Any = None

    def deviation(self, steps: int) -> float:
        """Standard deviation of the reward within a condition, over unguided samples."""
        drawn = sample(
            self.model,
            reward=self.reward,
            method=Unguided(particles=16),
            condition=self.conditions,
            groups=len(self.conditions),
            steps=steps,
            seed=99,
        )
        return float(drawn.rewards.std(dim=1).mean())


def mixtures(groups: int) -> Iterator[Problem]:
    """Eight components in 16 dimensions, three rewards."""
    generator = torch.Generator().manual_seed(7)
    means = 1.2 * torch.randn(8, 16, generator=generator, dtype=torch.float64)
    model = GaussianMixture([1.0] * 8, means, [0.5] * 8, dtype=torch.float64)
    direction = torch.randn(16, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm()
    aside = torch.randn(16, generator=generator, dtype=torch.float64)
    center = means[0] / 2 + 0.5 * torch.randn(16, generator=generator, dtype=torch.float64)
    functions: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
        "linear": (lambda vectors: vectors @ direction, True),
        "quadratic": (lambda vectors: -((vectors - center) ** 2).sum(-1), True),
        "count": (lambda vectors: -((vectors > 0.5).sum(-1) - 13).abs().double(), False),
    }
    judge = reward_of(name="nearness", modality="vector")(lambda vectors: vectors @ (direction + aside / 4))
    for name, (function, smooth) in functions.items():
        reward = reward_of(name=name, modality="vector", differentiable=smooth)(function)
        yield Problem(name, model, reward, judge, [None] * groups)


def digits(groups: int) -> Iterator[Problem]:
    """The bundled digits, judged by the classifier that steers nothing."""
    model = load("digits")
    conditions = [k % 10 for k in range(groups)]
    rewards = {
        "bold": [{"name": "digit"}, {"name": "ink", "weight": 40}],
        "mirror": "symmetry(axis='v')",
        "small file": "jpeg-compressibility",
    }
    for name, reward in rewards.items():
        yield Problem(name, model, as_reward(reward), "digit-judge", conditions)


def scenes(groups: int) -> Iterator[Problem]:
    """The bundled scenes on two lists of prompts: graded counts and relations, judged by a network."""
    model, reward = load("scenes"), as_reward([{"name": "scene-count"}, {"name": "scene-relation"}])
    for name, prompts in (("hard", HARD_PROMPTS), ("benchmark", BENCHMARK_PROMPTS)):
        conditions = [prompts[k % len(prompts)] for k in range(groups)]
        yield Problem(name, model, reward, "scene-judge", conditions, as_reward("scene-match"))


HARD_PROMPTS = (
    "1 green triangle and 2 blue circles and 2 blue triangles",
    "2 green circles and 2 green triangles and 1 yellow triangle",
    "2 green squares and 2 blue circles and 1 yellow triangle",
    "2 yellow circles and 1 yellow square and 2 yellow triangles",
    "4 red triangles and 1 green circle",
    "a blue square left of a blue circle",
    "a blue triangle left of a yellow square and 2 yellow triangles",
    "a blue triangle left of a yellow triangle and 2 green circles",
    "a green square left of a yellow circle and 1 red square",
    "a red circle left of a green square and 1 green triangle",
    "a red triangle left of a blue square and 2 yellow triangles",
    "a red triangle left of a blue triangle and 2 yellow circles",
    "a yellow square left of a blue square and 2 blue triangles",
    "a yellow triangle left of a green circle and 2 red triangles",
    "a yellow triangle left of a red circle and 2 red triangles",
    "1 green circle and 4 blue triangles",
    "1 red square and 1 red triangle and 2 yellow triangles",
    "2 red circles and 1 green square and 2 green triangles",
    "2 red squares and 1 red triangle and 2 yellow squares",
    "2 red squares and 3 red triangles",
    "2 red triangles and 2 blue circles and 1 yellow triangle",
    "3 red squares and 2 yellow circles",
    "a blue triangle left of a red square and 2 red circles",
    "a green circle left of a green triangle",
    "a green square left of a yellow square and 1 red triangle",
    "a red square left of a green square and 1 blue triangle",
    "a red square left of a yellow circle and 2 blue squares",
    "a red triangle left of a yellow triangle",
    "a yellow triangle left of a green circle and 2 green triangles",
    "1 green circle and 2 green triangles",
)
"""Of 200 random prompts the thirty that eight unguided samples met least often."""

PROBLEMS: dict[str, Callable[[int], Iterator[Problem]]] = {
    "mixture": mixtures,
    "digits": digits,
    "scenes": scenes,
}
