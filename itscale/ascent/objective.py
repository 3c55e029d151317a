"""What is climbed: the tilted reward and a weighted log-density of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from itscale.types import PerRow, State


class Penalty(Protocol):
    """A log-density of noises (rows, *any) or a bound on one; frozen, it goes where the rows live."""

    def log_density(self, z: State, turn: int = 0) -> PerRow: ...

    def gradient(self, z: State, turn: int = 0) -> State:
        """Of ``log_density``; ``turn`` counts the steps of the ascent."""
        ...


@dataclass(frozen=True)
class Objective:
    """``tilt r + weight log_density``."""

    tilt: float
    penalty: Penalty
    weight: float

    def gradient(self, z: State, of_reward: State, turn: int) -> State:
        """Shaped like ``z``."""
        gradient = self.tilt * of_reward
        return gradient if self.weight == 0 else gradient + self.weight * self.penalty.gradient(z, turn)
