"""A short way along the ODE from a state that was looked at: what look-aheads and inner flows are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import Coefficient, ContinuousProcess, Evaluation
from itscale.solvers.base import Kernel, remembered
from itscale.solvers.ddim import DDIM
from itscale.solvers.dpm_solver_2m import DPMSolver2M
from itscale.types import State

InnerName: TypeAlias = Literal["ddim", "dpm++2m"]
INNER = {"ddim": DDIM(), "dpm++2m": DPMSolver2M()}
"""Solvers of a leg: without noise, one evaluation a step."""

Ask: TypeAlias = Callable[[State, float, "Tensor | None"], Evaluation]
"""``(states, time, rows) -> evaluation``; ``rows`` are indices of the states' rows, None for all."""


@dataclass(frozen=True)
class Leg:
    """``moves`` steps of a solver of the ODE; the evaluation at its start is at hand.

    Attributes:
        times: of the grid; where the leg ends before the data, the jump there follows and is never made.
    """

    kernel: Kernel
    times: tuple[float, ...]
    moves: int

    @classmethod
    def build(cls, process: ContinuousProcess, times: list[float], solver: InnerName) -> Leg:
        """Make the leg through these times, to the data if the last one is 1."""
        grid = times if times[-1] == 1 else [*times, 1.0]
        still = ContinuousProcess(process.model, process.interpolant, Coefficient("zero"))
        kernel = get_inner(solver).build(still, torch.tensor(grid, dtype=torch.float64))
        return cls(kernel, tuple(grid), len(times) - 1)

    @property
    def looks(self) -> int:
        """Evaluations per row, beside the one at the start."""
        return sum(1 + self.kernel.extra_looks(k) for k in range(self.moves)) - 1

    def __call__(self, at: Evaluation, ask: Ask) -> State:
        """Return where the states of an evaluation at ``times[0]`` come to."""

        def inside(x: Tensor, where: int | float, rows: Tensor | None = None, /) -> Evaluation:
            return ask(x, where if isinstance(where, float) else self.times[where], rows)

        memory: tuple[Tensor, ...] = ()
        x = at.x
        for step in range(self.moves):
            at = inside(x, step) if step else at
            move = self.kernel(at, memory, step, inside, None)
            memory = remembered(self.kernel, at, memory, move)
            x = move.x
        return x


def get_inner(name: InnerName) -> DDIM | DPMSolver2M:
    """Return a solver of legs.

    Raises:
        ConfigError: for another one.
    """
    if name not in INNER:
        raise ConfigError(f"an inner solver is one of {', '.join(INNER)}, got {name!r}")
    return INNER[name]
