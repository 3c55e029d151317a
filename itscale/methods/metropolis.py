"""Moves within a level that keep the tilted law: propose, score, accept or stay."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.engine import Engine, Particles
from itscale.guides import Guide
from itscale.solvers import Kernel


def metropolis_move(engine: Engine, p: Particles, kernel: Kernel, guide: Guide | None = None) -> Particles:
    """Move scored particles once within their level, keeping the law ``p_k(x) exp(v(x))``.

    The kernel K must be reversible with respect to ``p_k``, the law of the level without a reward. Then a
    move from x to y is accepted with probability ``min(1, exp(v(y) - v(x)))``. A guide changes K(x, dy) to
    ``exp(h(x, y)) K(x, dy)`` with ``h = d(x).w - |d(x)|^2 / 2``, d its shift and w the noise with which K
    moves x to y; the ratio then takes up ``h(y, x) - h(x, y)``. Densities of states never appear, only
    noises and shifts: what cancels in them does so on paper, however large a state is.

    Cost: an NFE and a reward call a particle beside the kernel's own; with a guide a backward row as well.

    Args:
        engine: whose verbs are used.
        p: particles that were looked at and scored at their level, with the gradient if there is a guide.
        kernel: stays within the level; Gaussian and without memory if there is a guide.
        guide: shifts the noise of the moves along the reward's gradient through the network.

    Returns:
        Particles with the weights that they had; those that moved carry the value of where they are.

    Reference:
        Tierney (1998), "A note on Metropolis-Hastings kernels for general state spaces", theorem 2.
    """
    q = engine.score(engine.look(engine.mutate(p, kernel, guide), gradient=guide is not None))
    if guide is None:
        return accept_by_value(engine, p, q)
    there = p.log_ratio - q.log_ratio  # log q / p of the moves just made
    ratio = engine.log_preference(q, p, kernel, guide) - there
    return accept_by_value(engine, p, replace(q, log_ratio=p.log_ratio), ratio)


def accept_by_value(
    engine: Engine, p: Particles, q: Particles, ratio: Float64[Tensor, "g n"] | float = 0.0
) -> Particles:
    """Take q in place of p with probability ``min(1, exp(v(q) - v(p) + ratio))``, slot by slot.

    Weights must be those of difference potentials, which telescope: whatever the path, a particle has been
    weighted by its value.
    """
    # an invalid score says nothing of the new state, so it is not taken
    ratio = torch.where(q.valid, q.value - p.value + ratio, -torch.inf)
    carry = {**q.carry, "potential_memory": q.value, "log_potential": q.value}
    return engine.accept(p, replace(q, carry=carry), ratio)
