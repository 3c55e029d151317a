"""Tiny pipelines, and how each is called by diffusers with given latents."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

import itscale
from itscale.models.pipelines.tiny import TINY

PROMPT = "a red cube on a blue ball"
TOLERANCE = 1e-4
"""On final latents whose size is at most a few units: float32 rounding of two programs over a few steps."""


@functools.cache
def pipe_of(family: str) -> Any:
    """One pipeline a family for all tests; tests that change one make their own."""
    return TINY[family]()


def latents_of(model: Any, n: int = 3, seed: int = 0) -> Tensor:
    """Unit noise for n particles."""
    return torch.randn(n, *model.event_shape, generator=torch.Generator().manual_seed(seed))


def sampled(model: Any, latents: Tensor, steps: int, **settings: Any) -> Tensor:
    """Final states of the scheduler's own solver from these latents."""
    settings = {"condition": PROMPT, "solver": "scheduler", **settings}
    result = itscale.sample(model, n=len(latents), steps=steps, initial=latents[None], **settings)
    return result.states[0]
