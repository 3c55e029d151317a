"""The generator: random prompts, and random scenes that satisfy given prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itscale.scenes.drawing import REACHES, draw
from itscale.scenes.kinds import KINDS, MOST_OBJECTS, SHAPES, SIDE, Kind
from itscale.scenes.prompts import Prompt

SIZES = (3.2, 4.2)
"""Range of an object's size, in pixels."""
GAP, MARGIN = 2.0, 0.5
"""Least distance of two objects' bounding boxes, and of a box from the border, in pixels."""
APART = 2.0
"""Least horizontal distance of two centres that stand in a relation, in pixels."""
GROUNDS = (0.9, 0.98)
TINT = 0.04
TRIES = 24
"""Places tried per object before a scene is begun anew."""
OBJECTS = (0.1, 0.2, 0.25, 0.25, 0.2)
"""Share of the random prompts with one, two, ... objects."""
DISTINCT = (0.3, 0.4, 0.3)
"""Share with one, two, three kinds, as far as there are objects."""
RELATED = 0.7
"""Share with a relation, among prompts that have two single objects."""


@dataclass(frozen=True)
class Item:
    """One object of a scene; x to the right and y down from the top left corner, in pixels."""

    kind: Kind
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Scenes:
    """Structured scenes: float64 tensors ``(n, MOST_OBJECTS, ...)``, kind -1 for no object.

    Attributes:
        prompts: what each scene satisfies.
        kinds: index into ``KINDS``, int64.
        centres: x and y, in pixels from the top left corner; of a triangle the centroid.
        sizes: see ``itscale.scenes.drawing``.
        tints: deviation of each object's colour.
        grounds: ``(n,)``, grey level of the ground.
    """

    prompts: tuple[Prompt, ...]
    kinds: Tensor
    centres: Tensor
    sizes: Tensor
    tints: Tensor
    grounds: Tensor

    def images(self) -> Float[Tensor, "n 3 32 32"]:
        """Draw the scenes, in [0, 1]."""
        return draw(self.kinds, self.centres, self.sizes, self.tints, self.grounds)

    def items(self, index: int) -> list[Item]:
        """Return the objects of one scene."""
        return [
            Item(KINDS[int(kind)], float(x), float(y), float(size))
            for kind, (x, y), size in zip(
                self.kinds[index], self.centres[index], self.sizes[index], strict=True
            )
            if kind >= 0
        ]


def random_prompts(n: int, seed: int | np.random.Generator) -> list[Prompt]:
    """Draw prompts of one to five objects of one to three kinds, some with a relation."""
    draws = np.random.default_rng(seed)
    return [_random_prompt(draws) for _ in range(n)]


def random_scenes(prompts: Sequence[Prompt], seed: int | np.random.Generator) -> Scenes:
    """Draw one scene per prompt, uniform over places and sizes that keep the objects apart.

    Places are tried in turn; a scene in which an object finds none is begun anew, so crowded scenes have
    slightly smaller objects.
    """
    draws = np.random.default_rng(seed)
    n = len(prompts)
    kinds = np.full((n, MOST_OBJECTS), -1)
    for row, prompt in zip(kinds, prompts, strict=True):
        objects = prompt.objects
        row[: len(objects)] = draws.permutation(objects)
    relations = np.array([prompt.relation or (-2, -2) for prompt in prompts]).reshape(n, 2)
    centres, sizes = np.zeros((n, MOST_OBJECTS, 2)), np.zeros((n, MOST_OBJECTS))
    left = np.arange(n)
    while len(left):
        centres[left], sizes[left], is_placed = _places(kinds[left], draws)
        is_placed &= _relate(kinds[left], relations[left], centres, left)
        left = left[~is_placed]
    tints = draws.uniform(-TINT, TINT, (n, MOST_OBJECTS, 3))
    grounds = draws.uniform(*GROUNDS, n)
    return Scenes(tuple(prompts), *map(torch.from_numpy, (kinds, centres, sizes, tints, grounds)))


def boxes(kinds: np.ndarray, centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Bounding boxes (..., 4): least x, least y, greatest x, greatest y."""
    side, up, down = np.moveaxis(np.array(REACHES)[kinds % len(SHAPES)] * sizes[..., None], -1, 0)
    x, y = centres[..., 0], centres[..., 1]
    return np.stack([x - side, y - up, x + side, y + down], axis=-1)


def _random_prompt(draws: np.random.Generator) -> Prompt:
    objects = 1 + int(draws.choice(MOST_OBJECTS, p=OBJECTS))
    distinct = min(objects, 1 + int(draws.choice(len(DISTINCT), p=DISTINCT)))
    kinds = draws.choice(len(KINDS), distinct, replace=False)
    chosen = [*kinds, *draws.choice(kinds, objects - distinct)]
    counts = np.bincount(chosen, minlength=len(KINDS))
    singles = draws.permutation(np.flatnonzero(counts == 1))
    relation = None
    if len(singles) >= 2 and draws.random() < RELATED:
        relation = (int(singles[0]), int(singles[1]))
    return Prompt(tuple(counts.tolist()), relation)


def _places(kinds: np.ndarray, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One try per scene: centres, sizes, and whether every object found a place."""
    n = len(kinds)
    sizes = draws.uniform(*SIZES, kinds.shape)
    reach = boxes(kinds, np.zeros((*kinds.shape, 2)), sizes)
    centres, is_placed = np.zeros((*kinds.shape, 2)), np.ones(n, dtype=bool)
    for k in range(kinds.shape[1]):
        low, high = MARGIN - reach[:, k, :2], SIDE - MARGIN - reach[:, k, 2:]
        tried = low[:, None] + draws.random((n, TRIES, 2)) * (high - low)[:, None]
        box = tried[:, :, [0, 1, 0, 1]] + reach[:, k, None]
        is_free = np.ones((n, TRIES), dtype=bool)
        for j in range(k):
            other = (centres[:, j][:, [0, 1, 0, 1]] + reach[:, j])[:, None]
            distance = np.maximum(other[..., :2] - box[..., 2:], box[..., :2] - other[..., 2:]).max(axis=-1)
            is_free &= distance >= GAP
        first = is_free.argmax(axis=1)
        centres[:, k] = tried[np.arange(n), first]
        is_placed &= is_free.any(axis=1) | (kinds[:, k] < 0)
    return centres, sizes, is_placed


def _relate(kinds: np.ndarray, relations: np.ndarray, centres: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mirror scenes whose relation is the wrong way round; False where its objects are level."""
    is_left, is_right = kinds == relations[:, :1], kinds == relations[:, 1:]
    x = centres[rows, :, 0]
    ahead = (x * is_right).sum(axis=1) - (x * is_left).sum(axis=1)
    centres[rows[ahead < 0], :, 0] = SIDE - x[ahead < 0]
    return (np.abs(ahead) >= APART) | (relations[:, 0] < 0)
