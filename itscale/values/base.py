"""What a value is: a forecast of the reward that a state before the last look will come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look
from itscale.types import State


@dataclass(frozen=True)
class ScoreCost:
    """What one score before the last look costs; at the last look it is one reward call.

    Attributes:
        looks: evaluations beside the look that every level gets.
        calls: samples that the reward sees.
        is_denoised: the score is the reward of the denoised sample, which a run may hand out.
        is_mean: several calls are averaged as they are, not as what they are worth at the run's tilt.
        before_look: the score reads the state alone: children may be chosen before they are looked at.
    """

    looks: int = 0
    calls: int = 1
    is_denoised: bool = True
    is_mean: bool = False
    before_look: bool = False

    @property
    def most_calls(self) -> int:
        """Reward calls of a score at any level."""
        return max(1, self.calls)


DENOISED_COST = ScoreCost()


@dataclass(frozen=True)
class Unseen:
    """A state that was not looked at: what a forecast sees whose cost says ``before_look``."""

    x: State
    process: Any


@dataclass(frozen=True)
class Sight:
    """What a forecast sees of one micro-batch of rows.

    Attributes:
        at: the evaluation at the rows, all of one level; ``Unseen`` where the forecast reads states alone.
        level: that level.
        look: evaluates the model elsewhere: ``look(states, time, rows)``, where ``rows`` says for each state
            whose condition it has, and may name a row several times. One NFE each.
        normals: ``normals(count, common)`` draws (rows, count, *event); common ones are the same for all
            rows of a group, at all levels.
        uniforms: ``uniforms(count)`` draws (rows, count) uniforms in [0, 1).
        call: ``call(network, states, rows)`` runs ``network(states, condition)`` as the model is run, one
            micro-batch at a time; one NFE each where ``ScoreCost.looks`` says so.
    """

    at: Evaluation
    level: int
    look: Look
    normals: Callable[[int, bool], State]
    call: Callable[[Callable[..., Tensor], State, Tensor | None], Tensor]
    uniforms: Callable[[int], Tensor] | None = None


class Forecast(Protocol):
    """A value made for one process and grid."""

    @property
    def cost(self) -> ScoreCost: ...

    def __call__(self, sight: Sight) -> Tensor:
        """Return ends (rows, calls, *event) for the reward to see, or rewards (rows,) where calls is 0."""
        ...


class Value(Protocol):
    """A setting. ``build`` checks it against the process before any network call."""

    def build(self, process: ContinuousProcess, times: Tensor) -> Forecast | None:
        """Make the forecast; None scores the denoised sample."""
        ...
