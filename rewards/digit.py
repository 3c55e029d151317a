"""Log-probability of a handwritten digit, under one classifier to steer by and another to judge with."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from itscale.errors import ConfigError
from itscale.networks.classifiers import load_classifier

from .declare import built_in

CLASSES = 10
SIDE = 28


@built_in("digit")
@dataclass(frozen=True)
class Digit:
    """Log-probability that the steering classifier gives to a digit, at most 0.

    Takes images of 28 x 28; three channels are averaged.

    Args:
        label: 0 to 9; ``None`` takes each sample's own condition, so that a run for several digits
            asks each sample for its own.
    """

    label: int | None = None

    def __post_init__(self) -> None:
        _check("digit", self.label)

    def __call__(self, images: Float[Tensor, "m c h w"], conditions: Any = None) -> Float[Tensor, " m"]:
        return _log_probability("digit", "digit-steer", images, self.label, conditions)


@built_in("digit-judge")
@dataclass(frozen=True)
class DigitJudge:
    """Log-probability that the held-out classifier gives to a digit, at most 0.

    Trained apart, with another architecture: what fools the steering classifier alone scores low here.

    Args:
        label: 0 to 9; ``None`` takes each sample's own condition.
    """

    label: int | None = None

    def __post_init__(self) -> None:
        _check("digit-judge", self.label)

    def __call__(self, images: Float[Tensor, "m c h w"], conditions: Any = None) -> Float[Tensor, " m"]:
        return _log_probability("digit-judge", "digit-judge", images, self.label, conditions)


@cache
def _classifier(name: str, device: torch.device) -> nn.Module:
    return load_classifier(name).to(device).eval().requires_grad_(False)


def _log_probability(
    name: str, classifier: str, images: Tensor, label: int | None, conditions: Any
) -> Float[Tensor, " m"]:
    if images.shape[-2:] != (SIDE, SIDE):
        height, width = images.shape[-2:]
        raise ConfigError(f"reward {name!r} knows digits of {SIDE} x {SIDE} pixels, got {height} x {width}")
    grey = images.float().mean(dim=1, keepdim=True)  # over channels
    labels = _labels(name, len(images), label, conditions).to(images.device)
    log_probabilities = _classifier(classifier, images.device)(grey).log_softmax(dim=1)
    return log_probabilities.gather(1, labels[:, None])[:, 0]


def _labels(name: str, m: int, label: int | None, conditions: Any) -> Tensor:
    if label is not None:
        return torch.full((m,), label)
    if conditions is None:
        raise ConfigError(
            f"reward {name!r} has no digit to ask for; write {name}(label=7), or condition the run"
        )
    if not isinstance(conditions, Tensor):
        for condition in conditions:
            _check(name, condition, none_allowed=False)
        conditions = torch.tensor([operator.index(condition) for condition in conditions])
    if conditions.shape != (m,) or conditions.is_floating_point():
        raise ConfigError(
            f"reward {name!r} takes one whole number per sample as condition, got {conditions.dtype} of "
            f"shape {list(conditions.shape)}; name the digit: {name}(label=7)"
        )
    return conditions.long()


def _check(name: str, label: Any, none_allowed: bool = True) -> None:
    if label is None and none_allowed:
        return
    if _index(label) not in range(CLASSES):
        raise ConfigError(f"reward {name!r}: label is {label!r}; give a digit from 0 to 9")


def _index(label: Any) -> int:
    """The whole number that a label of any library stands for, -1 for what is none."""
    try:
        return -1 if isinstance(label, bool) else operator.index(label)
    except TypeError:
        return -1
