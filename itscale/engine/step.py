"""What a callback sees of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine.particles import Particles


@dataclass(frozen=True)
class Step:
    """What ``on_step`` sees after each move.

    Attributes:
        ancestors: per particle, the slot of its ancestor in the population of the step before.
        pool: what the pool has to say of the step, such as bytes that moved between shards.
    """

    level: int
    steps: int
    t: float
    particles: Particles
    ess: Float64[Tensor, " g"]
    nfe: int
    best_reward: float
    ancestors: Int64[Tensor, "g n"]
    pool: Mapping[str, Any] = field(default_factory=dict)
