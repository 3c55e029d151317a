"""From the first level to the data in a few steps of the ODE: how a cheap sample is drawn beside a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.leg import InnerName, Leg


@dataclass(frozen=True)
class Descent:
    """One move down to the data, in steps that are even in time; rows must have been looked at."""

    leg: Leg
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    @classmethod
    def build(cls, process: ContinuousProcess, start: float, steps: int, solver: InnerName) -> Descent:
        times = [start + (1 - start) * k / steps for k in range(steps)]
        return cls(Leg.build(process, [*times, 1.0], solver))

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return self.leg.looks

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        return Move(self.leg(at, look))
