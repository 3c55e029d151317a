"""Ancestors when one particle must survive: the resampling step of conditional SMC.

The retained particle sits in slot 0. Its parent ``b`` is slot 0 again, or drawn first by ancestor sampling;
the other slots are then drawn given ``b``. In any other order, or with slot 0 overwritten after a plain draw,
the path law is not left invariant.

Reference:
    Andrieu, Doucet and Holenstein (2010), "Particle Markov chain Monte Carlo methods"; Lindsten, Jordan and
    Schon (2014), "Particle Gibbs with Ancestor Sampling"; Chopin and Singh (2015), "On particle Gibbs
    sampling" (systematic).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.particles.resampling import ancestors_sorted
from itscale.particles.schemes import Uniforms, cumulative, systematic
from itscale.particles.weights import normalise

CONDITIONAL = ("multinomial", "systematic")


def conditional_uniforms(n: int) -> int:
    """How many uniforms ``conditional_ancestors`` takes per group."""
    return n + 1


def draw_parent(log_weights: Float[Tensor, "g n"], u: Float64[Tensor, " g"]) -> Int64[Tensor, " g"]:
    """Draw one particle in proportion to its weight: with the log-density of the move to the retained
    particle added to the weights, this is ancestor sampling."""
    c = cumulative(normalise(log_weights.to(torch.float64)))
    return (c <= u[:, None]).sum(-1).clamp_max(c.shape[-1] - 1)


def conditional_ancestors(
    log_weights: Float[Tensor, "g n"],
    parent: Int64[Tensor, " g"],
    u: Uniforms,
    scheme: str = "multinomial",
) -> Int64[Tensor, "g n"]:
    """Draw ancestors given that slot 0 descends from ``parent``.

    Args:
        log_weights: of the present particles; a group's weights must not all be zero.
        parent: ``b``.
        u: ``(g, n + 1)`` uniforms.
        scheme: ``"multinomial"`` or ``"systematic"``.

    Returns:
        Ancestors with ``parent`` in slot 0. Weights afterwards are equal, and ``log_mean_exp`` of those
        before goes into the evidence, as after plain resampling.

    Raises:
        ConfigError: for another scheme.
    """
    g, n = log_weights.shape
    c = cumulative(normalise(log_weights.to(torch.float64)))
    if scheme == "multinomial":
        others = torch.searchsorted(c, u[:, : n - 1].contiguous(), right=True).clamp_max(n - 1)
        return torch.cat([parent[:, None], others], 1)
    if scheme != "systematic":
        raise ConfigError(f"conditional resampling is {' or '.join(CONDITIONAL)}, got {scheme!r}")
    upper = c.gather(-1, parent[:, None])
    lower = torch.where(parent[:, None] > 0, c.gather(-1, (parent[:, None] - 1).clamp_min(0)), 0.0)
    # a point of the parent's own stretch fixes the offset of the grid, and one of its slots
    v = n * (lower + u[:, :1] * (upper - lower))
    slot = v.floor().clamp_max(n - 1)
    counts = systematic(normalise(log_weights.to(torch.float64)), n, v - slot)
    drawn = ancestors_sorted(counts, n)
    order = torch.arange(n, device=drawn.device).expand(g, n)
    rest = order[:, :-1] + (order[:, :-1] >= slot.to(torch.int64))  # all slots but the parent's
    shuffled = rest.gather(-1, u[:, 1:n].argsort(-1))
    return torch.cat([parent[:, None], drawn.gather(-1, shuffled)], 1)
