"""Difference, max, sum and value potentials on values ``v = tilt * r`` of the denoised sample.

Reference:
    Singhal et al. (2025), "A General Framework for Inference-time Scaling and Steering of Diffusion Models",
    arXiv:2501.06848, section 3. The terminal factor there is part of the potential; here it is the engine's,
    from the reward of the sample itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """``log G_k = v_k - v_(k-1)``: telescopes, the least variance of the four."""

    initial: float = 0.0

    def __call__(self, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return value - memory, value


@dataclass(frozen=True)
class Max:
    """``log G_k = max_(i<=k) v_i``: remembers the best a path has promised; weights degenerate early."""

    initial: float = -torch.inf

    def __call__(self, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        best = torch.maximum(value, memory)
        return best, best


@dataclass(frozen=True)
class Sum:
    """``log G_k = sum_(i<=k) v_i``: the strongest selection, and far from its limit at usual sizes."""

    initial: float = 0.0

    def __call__(self, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        total = value + memory
        return total, total


@dataclass(frozen=True)
class Value:
    """``log G_k = v_k``: the value itself at every scored level ("RT"); along a path they add up."""

    initial: float = 0.0

    def __call__(self, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return value, memory
