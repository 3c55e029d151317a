"""Resampling: counts to ancestors, and the one rule for the weights afterwards.

Evidence convention, kept by every function here and in ``selection``:

    log Z = log_evidence + log_mean_exp(log_weights)

where ``log_evidence`` has taken up every ``log_evidence_increment``, and the mean runs over the particles
present at that moment. Nothing else is a normaliser, and none is ever dropped.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from itscale.particles.schemes import Counts, Scheme, Uniforms, get_scheme
from itscale.particles.weights import is_dead, log_mean_exp, normalise


class Resampled(NamedTuple):
    """Who survives, what weight remains on them, and what went into the evidence."""

    ancestors: Int64[Tensor, "g m"]
    log_weights: Float64[Tensor, "g m"]
    log_evidence_increment: Float64[Tensor, " g"]


def identity(g: int, n: int, m: int, device: torch.device) -> Int64[Tensor, "g m"]:
    """Ancestors that leave everything in place; slots wrap around when ``m > n``."""
    return (torch.arange(m, device=device) % n).expand(g, m)


def ancestors_sorted(counts: Counts, m: int) -> Int64[Tensor, "g m"]:
    """List each parent as often as it has children, in increasing order. Rows must sum to ``m``."""
    g, n = counts.shape
    start = counts.cumsum(-1) - counts
    parent = torch.arange(n, device=counts.device).expand(g, n)
    # Each parent is written where its children begin, the childless into a spare last column, and a
    # running maximum fills in. Two passes over memory, where a search would take n log n.
    first = torch.zeros(g, m + 1, dtype=torch.int64, device=counts.device)
    first.scatter_(-1, torch.where(counts > 0, start, m), parent)
    return first[:, :m].cummax(-1).values


def ancestors_in_place(counts: Counts) -> Int64[Tensor, "g n"]:
    """Let every survivor keep its slot and put surplus copies into the dead slots.

    The ``r``-th dead slot receives the ``r``-th surplus copy, both in increasing order. The answer depends
    on the counts only and moves as few particles as possible. Rows must sum to ``n``.
    """
    g, n = counts.shape
    is_dead_slot = counts == 0
    slot = torch.arange(n, device=counts.device).expand(g, n)
    rank = is_dead_slot.cumsum(-1)
    # The list of surplus copies, filled up to n entries behind its end (in the extra column n).
    surplus = torch.cat([(counts - 1).clamp_min(0), n - rank[:, -1:]], -1)
    parents = ancestors_sorted(surplus, n)
    return torch.where(is_dead_slot, parents.gather(-1, (rank - 1).clamp_min(0)), slot)


def ancestors(counts: Counts, m: int) -> Int64[Tensor, "g m"]:
    """Turn counts into ancestors: in place when the number of particles stays, else sorted."""
    return ancestors_in_place(counts) if counts.shape[-1] == m else ancestors_sorted(counts, m)


def partial(log_weights: Float[Tensor, "g n"], fraction: float) -> Float64[Tensor, "g n"]:
    """Auxiliary log-weights ``fraction * log_weights`` for a partial resampling.

    The knob between balanced weights (1: plain resampling) and diversity (0: nothing is favoured). A
    particle of weight zero stays at zero for every fraction.
    """
    lw = log_weights.to(torch.float64)
    return torch.where(lw == -math.inf, lw, fraction * lw)


def resample(
    log_weights: Float[Tensor, "g n"],
    u: Uniforms,
    scheme: str | Scheme = "systematic",
    m: int | None = None,
    aux: Float[Tensor, "g n"] | None = None,
) -> Resampled:
    """Draw ``m`` ancestors in proportion to ``exp(aux)`` and correct the weights for it.

        A ~ scheme(softmax(aux)),   log_weights' = log_weights_A - aux_A,   increment = log_mean_exp(aux)

    With ``aux = log_weights``, the default, this is plain resampling: the weights become 0 and the mean
    weight moves into the evidence. ``aux = partial(log_weights, a)`` is partial, ``log_weights + log eta``
    auxiliary (look-ahead) resampling. For every ``aux`` and every unbiased scheme,
    ``exp(increment) * mean_j exp(log_weights'_j) f(x_{A_j})`` has the conditional mean
    ``mean_i exp(log_weights_i) f(x_i)``; the mean weight is over the ``n`` inputs also when ``m != n``.

    A dead group, and one in which ``aux`` is ``-inf`` everywhere, is left alone: identity, weights
    unchanged, increment 0. So a dead group keeps ``-inf`` and its evidence stays zero.

    Args:
        log_weights: unnormalised, ``-inf`` allowed, no NaN (see ``sanitize``).
        u: uniforms of shape ``(g, get_scheme(scheme).uniforms(n, m))``.
        scheme: a name in ``SCHEMES`` or a ``Scheme``.
        m: number of children; ``n`` if not given.
        aux: auxiliary log-weights. Must be finite wherever ``log_weights`` is, or that part is lost.

    Raises:
        ConfigError: if the scheme is unknown, cannot make ``m`` of ``n``, or ``u`` has another shape.

    Reference:
        Pitt and Shephard (1999), "Filtering via Simulation: Auxiliary Particle Filters"; for partial
        resampling Liu, Chen and Logvinenko (2001), "A Theoretical Framework for Sequential Importance
        Sampling with Resampling".
    """
    lw = log_weights.to(torch.float64)
    g, n = lw.shape
    m = n if m is None else m
    # A particle of weight zero has nothing to pass on; this also covers 0 * -inf in a caller's aux.
    aux = lw if aux is None else torch.where(lw == -math.inf, lw, aux.to(torch.float64))
    dead = is_dead(aux)[:, None]
    counts = get_scheme(scheme)(normalise(aux), m, u)
    index = torch.where(dead, identity(g, n, m, lw.device), ancestors(counts, m))
    corrected = torch.where(dead, lw, lw - aux).gather(-1, index)
    return Resampled(index, corrected, torch.where(dead[:, 0], 0.0, log_mean_exp(aux)))


def adaptive(
    mask: Bool[Tensor, " g"],
    log_weights: Float[Tensor, "g n"],
    u: Uniforms,
    scheme: str | Scheme = "systematic",
    aux: Float[Tensor, "g n"] | None = None,
) -> Resampled:
    """Resample the groups in ``mask``; the others keep ancestors, weights and evidence as they are.

    Weights that are not resampled are carried, never dropped. Both outcomes are computed and one is
    selected, so that no decision waits for the device. Arguments and errors as for ``resample``.
    """
    lw = log_weights.to(torch.float64)
    drawn = resample(lw, u, scheme, aux=aux)
    return Resampled(
        torch.where(mask[:, None], drawn.ancestors, identity(*lw.shape, lw.shape[-1], lw.device)),
        torch.where(mask[:, None], drawn.log_weights, lw),
        torch.where(mask, drawn.log_evidence_increment, 0.0),
    )
