"""What a twist is: an early guess of the final value, and what it would add to the denoised sample.

As a guide it may be poor and cannot be wrong: weights take up its values, which telescope to the reward, and
pay for its pushes as for any shift of the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

from jaxtyping import Float64
from torch import Tensor

from itscale.guides.base import Bridge, View, capped
from itscale.process import Evaluation
from itscale.types import State


@dataclass(frozen=True)
class Prospect:
    """What a twist sees of one micro-batch of rows, all at one level.

    Attributes:
        here: the evaluation; its states carry a gradient if the twist goes back through the network.
        level: of the rows; a move follows.
        bridge: the process's moves to first order.
        decode: states to samples.
        reward: states, as many per row, to raw rewards; differentiable if the reward is.
        normals: ``normals(count)`` draws (rows, count, *event).
    """

    here: Evaluation
    level: int
    bridge: Bridge
    decode: Callable[[Tensor], Tensor]
    reward: Callable[[Tensor], Tensor]
    normals: Callable[[int], Tensor]

    @property
    def alpha(self) -> float:
        return float(self.bridge.alpha[self.level])

    @property
    def sigma(self) -> float:
        return float(self.bridge.sigma[self.level])

    @property
    def alpha_ahead(self) -> float:
        return float(self.bridge.alpha[self.level + 1])

    @property
    def sigma_ahead(self) -> float:
        return float(self.bridge.sigma[self.level + 1])

    @property
    def pulled(self) -> float:
        """The factor on the denoised sample in the move ahead."""
        return float(self.bridge.pulled[self.level])

    @property
    def square(self) -> float:
        """``s^2 = sigma^2 / alpha^2``; infinite at pure noise."""
        return float("inf") if self.alpha == 0 else (self.sigma / self.alpha) ** 2


class Twist(Protocol):
    """A value and a push from a prospect; frozen, so that it can be sent to where the rows live.

    Attributes:
        backward: how often a row goes backwards through the network.
        calls: reward calls for a row; a measurement counts once.
    """

    @property
    def backward(self) -> int: ...

    @property
    def calls(self) -> int: ...

    def __call__(self, prospect: Prospect) -> tuple[Float64[Tensor, " rows"], State]:
        """Return the guessed reward (rows,), and what to add to the denoised sample in the move ahead."""
        ...


Assessor: TypeAlias = Callable[[Evaluation, int, Bridge], Tensor]
"""``(evaluation, level, bridge) -> (rows,)``: a number per row, without a gradient."""


@dataclass(frozen=True)
class Correction:
    """The push that a twist left with the rows, as a shift of the noise: ``pulled / std`` times it.

    Attributes:
        cap: largest norm of the shift in standard deviations of the move; None leaves it as it is.
    """

    cap: float | None = None
    wants_context: ClassVar[bool] = False

    def __call__(self, view: View) -> State:
        assert view.gradient is not None, "the look before this move kept no push"
        factor = view.factor(view.bridge.pulled / view.bridge.std.clamp_min(1e-300))
        return capped(factor * view.gradient, self.cap)
