"""Whether scenes of coloured shapes hold what their prompt asks for: graded to steer by, strict to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from itscale.errors import ConfigError
from itscale.scenes import SIDE, Found, Prompt, as_prompt, find

from .declare import built_in


@built_in("scene-count")
@dataclass(frozen=True)
class SceneCount:
    """Minus the number of objects too many or too few, summed over the kinds; 0 when every count is right.

    Objects are found by colour, connection and shape. A region that is no circle, square or triangle, two
    objects that touch for example, counts as one too many.

    Args:
        prompt: text such as ``"3 red circles"``; ``None`` takes each sample's own condition.
    """

    prompt: str | None = None

    def __post_init__(self) -> None:
        _check(self.prompt)

    def __call__(self, images: Float[Tensor, "m 3 32 32"], conditions: Any = None) -> Float[Tensor, " m"]:
        prompts = _prompts("scene-count", images, self.prompt, conditions)
        return -_count_errors(find(images), prompts)


@built_in("scene-relation")
@dataclass(frozen=True)
class SceneRelation:
    """How far the left object of the relation is from being left of the other, in [-1, 0].

    0 where the relation holds or the prompt has none, -1 where one of the two is missing, else minus the
    distance that the centres are the wrong way round, in widths of the image.

    Args:
        prompt: text such as ``"a red circle left of a blue square"``; ``None`` takes each sample's own
            condition.
    """

    prompt: str | None = None

    def __post_init__(self) -> None:
        _check(self.prompt)

    def __call__(self, images: Float[Tensor, "m 3 32 32"], conditions: Any = None) -> Float[Tensor, " m"]:
        prompts = _prompts("scene-relation", images, self.prompt, conditions)
        return (_ahead(find(images).x, prompts) / SIDE).clamp(-1, 0)


@built_in("scene-match")
@dataclass(frozen=True)
class SceneMatch:
    """1 where the scene is exactly what the prompt asks for, counts and relation, else 0.

    Args:
        prompt: text; ``None`` takes each sample's own condition.
    """

    prompt: str | None = None

    def __post_init__(self) -> None:
        _check(self.prompt)

    def __call__(self, images: Float[Tensor, "m 3 32 32"], conditions: Any = None) -> Float[Tensor, " m"]:
        prompts = _prompts("scene-match", images, self.prompt, conditions)
        found = find(images)
        is_right = (_count_errors(found, prompts) == 0) & (_ahead(found.x, prompts) > 0)
        return is_right.to(images.dtype)


@built_in("scene-judge")
@dataclass(frozen=True)
class SceneJudge:
    """The same verdict, 1 or 0, by a network that was trained to mark centres and segments nothing.

    Held out from steering: what pleases the other scene rewards by their rules alone scores low here.

    Args:
        prompt: text; ``None`` takes each sample's own condition.
    """

    prompt: str | None = None

    def __post_init__(self) -> None:
        _check(self.prompt)

    def __call__(self, images: Float[Tensor, "m 3 32 32"], conditions: Any = None) -> Float[Tensor, " m"]:
        prompts = _prompts("scene-judge", images, self.prompt, conditions)
        with torch.no_grad():
            density = _judge(images.device)(images.float())
        counts = density.sum(dim=(2, 3))  # over cells
        cells = torch.arange(density.shape[3], device=images.device) + 0.5
        x = (density.sum(dim=2) * cells).sum(dim=2) / counts * (SIDE / len(cells))
        is_counted = (counts.round() == _wanted(prompts, images.device)).all(dim=1)  # over kinds
        return (is_counted & (_ahead(x, prompts) > 0)).to(images.dtype)


@cache
def _judge(device: torch.device) -> nn.Module:
    from itscale.networks.scene_judge import load_scene_judge  # weights are read on first use

    return load_scene_judge().to(device)


def _wanted(prompts: Sequence[Prompt], device: torch.device) -> Float[Tensor, "m kinds"]:
    return torch.tensor([prompt.counts for prompt in prompts], dtype=torch.float32, device=device)


def _count_errors(found: Found, prompts: Sequence[Prompt]) -> Float[Tensor, " m"]:
    return (found.counts - _wanted(prompts, found.odd.device)).abs().sum(dim=1) + found.odd  # over kinds


def _ahead(x: Float[Tensor, "m kinds"], prompts: Sequence[Prompt]) -> Float[Tensor, " m"]:
    """How far the left object is ahead of the right one: inf without a relation, -inf if one is missing."""
    pairs = torch.tensor([prompt.relation or (0, 0) for prompt in prompts], device=x.device)
    is_free: Bool[Tensor, " m"] = pairs[:, 0] == pairs[:, 1]
    left, right = x.gather(1, pairs).unbind(dim=1)
    return torch.where(is_free, torch.inf, (right - left).nan_to_num(nan=-torch.inf))


def _prompts(name: str, images: Tensor, prompt: str | None, conditions: Any) -> list[Prompt]:
    if images.shape[-2:] != (SIDE, SIDE):
        height, width = images.shape[-2:]
        raise ConfigError(f"reward {name!r} knows scenes of {SIDE} x {SIDE} pixels, got {height} x {width}")
    if prompt is not None:
        return [as_prompt(prompt)] * len(images)
    if conditions is None:
        raise ConfigError(
            f"reward {name!r} has no prompt to ask for; write {name}(prompt='3 red circles'), or condition "
            "the run"
        )
    return [as_prompt(condition) for condition in conditions]


def _check(prompt: str | None) -> None:
    if prompt is not None:
        as_prompt(prompt)
