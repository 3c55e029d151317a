"""When to resample: small frozen rules ``(log_weights (g, n), step) -> (g,)`` bool.

``step`` counts from 0. A rule sees one step's weights, group by group; any callable of this shape is a
rule, and leaves the evidence unbiased as long as it looks at the past and the present only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from itscale.errors import ConfigError
from itscale.particles.weights import effective_sample_size


class Rule(Protocol):
    """Decide per group whether to resample at this step."""

    def __call__(self, log_weights: Float[Tensor, "g n"], step: int) -> Bool[Tensor, " g"]: ...


def _all(log_weights: Tensor, answer: bool) -> Tensor:
    return torch.full(log_weights.shape[:-1], answer, device=log_weights.device)


@dataclass(frozen=True)
class WhenESSBelow:
    """Resample groups whose effective sample size is below ``fraction * n`` (strictly)."""

    fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.fraction <= 1.0:
            raise ConfigError(
                f"WhenESSBelow.fraction is {self.fraction!r}, but is a share of the particles: "
                "give a number from 0 (never) to 1 (whenever weights differ)"
            )

    def __call__(self, log_weights: Float[Tensor, "g n"], step: int) -> Bool[Tensor, " g"]:
        return effective_sample_size(log_weights) < self.fraction * log_weights.shape[-1]


@dataclass(frozen=True)
class Always:
    """Resample every group at every step."""

    def __call__(self, log_weights: Float[Tensor, "g n"], step: int) -> Bool[Tensor, " g"]:
        return _all(log_weights, True)


@dataclass(frozen=True)
class Never:
    """Never resample: importance sampling, with all weights carried to the end."""

    def __call__(self, log_weights: Float[Tensor, "g n"], step: int) -> Bool[Tensor, " g"]:
        return _all(log_weights, False)


@dataclass(frozen=True)
class Every:
    """Resample after every ``k``-th step: steps ``k - 1, 2k - 1, ...``; ``Every(1)`` is ``Always()``."""

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ConfigError(
                f"Every.k is {self.k!r}, but must be a whole number of at least 1; for none, use Never()"
            )

    def __call__(self, log_weights: Float[Tensor, "g n"], step: int) -> Bool[Tensor, " g"]:
        return _all(log_weights, (step + 1) % self.k == 0)


@dataclass(frozen=True)
class At:
    """Resample at the listed steps."""

    steps: Sequence[int]

    def __post_init__(self) -> None:
        steps = tuple(self.steps) if isinstance(self.steps, Iterable) else ()
        if not steps or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in steps):
            raise ConfigError(
                f"At.steps is {self.steps!r}, but must list steps counted from 0, e.g. (9, 19); "
                "for none, use Never()"
            )
        object.__setattr__(self, "steps", steps)

    def __call__(self, log_weights: Float[Tensor, "g n"], step: int) -> Bool[Tensor, " g"]:
        return _all(log_weights, step in self.steps)
