"""What a guide is: a function from what is known before a move to a shift of the move's noise.

A move that would use the noise ``xi`` uses ``d + xi`` in its place, and the weight takes up
``log p - log q = -d.xi - |d|^2 / 2``. This is exact for every kernel that is driven by noise, Gaussian or
not, and for every ``d`` that does not depend on ``xi``: a guide can be poor, but not wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.schedule import Schedule
from itscale.types import State, expand_over_event


@dataclass(frozen=True)
class Bridge:
    """The moves of a process on a grid to first order: ``x+ = kept x + pulled D + std z`` at every level.

    Attributes:
        kept, pulled, std: (steps - 1,) float64; the last move is a jump and takes no noise.
        alpha, sigma: (steps + 1,) float64, at the grid points.
    """

    kept: Float64[Tensor, " moves"]
    pulled: Float64[Tensor, " moves"]
    std: Float64[Tensor, " moves"]
    alpha: Float64[Tensor, " points"]
    sigma: Float64[Tensor, " points"]

    @classmethod
    def of(cls, process: ContinuousProcess, times: Tensor) -> Bridge:
        schedule = Schedule.of(process, times)
        moves = range(schedule.steps - 1)

        def table(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64)

        return cls(
            table([schedule.kept(k) for k in moves]),
            table([schedule.pulled(k) for k in moves]),
            table([schedule.noise_std(k) for k in moves]),
            table(schedule.alpha),
            table(schedule.sigma),
        )


@dataclass(frozen=True)
class Context:
    """The whole population before the move, for guides that learn from it.

    Attributes:
        denoised: (g, n, d), denoised samples, flat.
        value: (g, n), tilt * reward of each; -inf where there is none.
    """

    denoised: Float[Tensor, "g n d"]
    value: Float64[Tensor, "g n"]


@dataclass(frozen=True)
class View:
    """What a guide sees of one micro-batch of rows that are about to move.

    Attributes:
        here: the evaluation at the rows.
        level: level of the rows, one for all or (rows,).
        gradient: of the reward, shaped like the states, if one was computed.
        group: index of each row's group in this run, (rows,).
        bridge: the process's moves to first order.
        decode: states to samples.
        context: the population before the move, if the guide asked for it.
        pad: where results must not depend on which rows came together, a number of rows to which matrix
            products are padded; None elsewhere.
    """

    here: Evaluation
    level: int | Tensor
    gradient: State | None
    group: Int64[Tensor, " rows"]
    bridge: Bridge
    decode: Callable[[Tensor], Tensor]
    context: Context | None = None
    pad: int | None = None

    @cached_property
    def mean(self) -> State:
        """Where the move would go without noise."""
        x = self.here.x
        return self.factor(self.bridge.kept) * x + self.factor(self.bridge.pulled) * self.here.denoised

    def factor(self, table: Tensor, ahead: int = 0) -> Tensor:
        """The entry of a table at the rows' level (plus ``ahead``), shaped to multiply states."""
        return expand_over_event(table[self.level + ahead], self.here.x)


class Guide(Protocol):
    """A shift of the noise; frozen, so that it can be sent to where the rows live.

    Attributes:
        wants_context: whether ``view.context`` must be there.
    """

    wants_context: ClassVar[bool]

    def __call__(self, view: View) -> State:
        """Return what is added to the standard normal noise, shaped like the states."""
        ...


def capped(shift: State, cap: float | None) -> State:
    """Scale each row down to a norm of at most ``cap``: it then costs at most ``cap^2 / 2`` nats on average.

    A row that is not finite becomes zero: no guidance is better than a broken particle. None limits nothing
    else.
    """
    norm = shift.flatten(1).norm(dim=1)
    limit = 1.0 if cap is None else (cap / norm.clamp_min(1e-30)).clamp_max(1.0)
    factor = torch.where(norm.isfinite(), limit, 0.0)
    return shift.nan_to_num(0.0, 0.0, 0.0) * expand_over_event(factor, shift)
