"""A kernel's moves on one grid, where no engine keeps the rows."""

from __future__ import annotations

import torch
from torch import Tensor

from itscale.models.conditions import Encoding
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Kernel, remembered
from itscale.types import State


def march(
    process: ContinuousProcess,
    kernel: Kernel,
    times: Tensor,
    x: State,
    condition: Encoding | None,
    moves: int | None = None,
) -> State:
    """Move states from level 0 through ``moves`` moves without noise; None is all, the jump included."""

    def look(y: Tensor, where: int | float, rows: Tensor | None = None, /) -> Evaluation:
        t = torch.tensor(where, dtype=torch.float64) if isinstance(where, float) else times[where]
        return process.evaluate(y, t, condition)

    memory: tuple[Tensor, ...] = ()
    for level in range(len(times) - 1 if moves is None else moves):
        at = look(x, level)
        move = kernel(at, memory, level, look, None)
        x, memory = move.x, remembered(kernel, at, memory, move)
    return x
