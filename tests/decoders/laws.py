"""Laws of decoders, exactly: probability mass moved through all masked states, without a random number."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from itscale.decoders import get_decoder
from itscale.models import Enumerable
from itscale.process import Masking, TokenProcess


@cache
def pairs(v: int, length: int) -> tuple[Tensor, Tensor]:
    """All (state, later state) of ``length`` positions where only hidden positions change."""
    options = [(a, a) for a in range(v + 1)] + [(v, a) for a in range(v)]
    chosen = torch.cartesian_prod(*[torch.arange(len(options))] * length).reshape(-1, length)
    both = torch.tensor(options)[chosen]
    return both[..., 0], both[..., 1]


def propagate(
    model: Any, decoder: Any, steps: int | None = None, *, weighted: bool = False, schedule: Any = "linear"
) -> Tensor:
    """Mass of complete sequences when all of it starts hidden; with weights, it need not sum to one."""
    experts = getattr(model, "experts", (model,))
    base: Enumerable = experts[0]
    process = TokenProcess(model, Masking(schedule=schedule))
    kernel = get_decoder(decoder).build(process, steps)
    v, length = base.tokens.size, base.length
    x, y = pairs(v, length)
    source, target = base.number(x), base.number(y)
    mass = torch.zeros((v + 1) ** length, dtype=torch.float64)
    mass[-1] = 1.0
    at = process.evaluate(x, torch.tensor(0.0), None)
    for level in range(kernel.steps):
        moved = kernel.log_prob(at, level, y)
        if weighted:
            moved = moved + kernel.log_weight(at, level, y)
        mass = torch.zeros_like(mass).index_add_(0, target, mass[source] * moved.exp())
    return mass[base.number(base.sequences)]
