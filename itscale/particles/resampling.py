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
from itscale.particles.weights import relative


class Resampled(NamedTuple):
    """Who survives, what weight remains on them, and what went into the evidence."""

    ancestors: Int64[Tensor, "g m"]
    log_weights: Float64[Tensor, "g m"]
    log_evidence_increment: Float64[Tensor, " g"]


def _slots(n: int, like: Tensor) -> Int64[Tensor, "g n"]:
    return torch.arange(n, device=like.device).expand(like.shape[0], n)


def _runs(parent: Tensor, start: Tensor, has_run: Tensor, length: int) -> Int64[Tensor, "g length"]:
    """Fill rows with runs of increasing parents, each from its ``start`` to the next one's.

    Each parent is written where its run begins (those without one into a spare column), and a running
    maximum fills in: two passes over memory, where a search would take ``n log n``.
    """
    first = torch.zeros(len(parent), length + 1, dtype=torch.int64, device=parent.device)
    first.scatter_(-1, torch.where(has_run, start, length), parent)
    return first[:, :length].cummax(-1).values


def ancestors_sorted(counts: Counts, m: int) -> Int64[Tensor, "g m"]:
    """List each parent as often as it has children, in increasing order. Rows must sum to ``m``."""
    slot = _slots(counts.shape[-1], counts)
    return _runs(slot, counts.cumsum(-1).sub_(counts), counts > 0, m)


def ancestors_in_place(counts: Counts) -> Int64[Tensor, "g n"]:
    """Let every survivor keep its slot and put surplus copies into the dead slots.

    The ``r``-th dead slot receives the ``r``-th surplus copy, both in increasing order. The answer depends
    on the counts only and moves as few particles as possible. Rows must sum to ``n``.
    """
    slot = _slots(counts.shape[-1], counts)
    surplus = (counts - 1).clamp_min_(0)
    copies = _runs(slot, surplus.cumsum(-1).sub_(surplus), counts > 1, counts.shape[-1])
    is_dead_slot = counts == 0
    rank = is_dead_slot.cumsum(-1).sub_(1).clamp_min_(0)
    return torch.where(is_dead_slot, copies.gather(-1, rank), slot)


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
    return _resample(None, log_weights, u, scheme, m, aux)


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
    return _resample(mask, log_weights, u, scheme, None, aux)


def _resample(
    mask: Tensor | None,
    log_weights: Tensor,
    u: Tensor,
    scheme: str | Scheme,
    m: int | None,
    aux: Tensor | None,
) -> Resampled:
    lw = log_weights.to(torch.float64)
    n = lw.shape[-1]
    m = n if m is None else m
    # A particle of weight zero has nothing to pass on; this also covers 0 * -inf in a caller's aux.
    aux = lw if aux is None else torch.where(lw == -math.inf, lw, aux.to(torch.float64))
    w, largest = relative(aux)
    mean = w.mean(-1, keepdim=True)
    moves = mean > 0 if mask is None else (mean > 0) & mask[:, None]
    counts = torch.where(moves, get_scheme(scheme)(w, m, u), int(m == n))
    if m == n:
        index = ancestors_in_place(counts)
    else:
        index = torch.where(moves, ancestors_sorted(counts, m), _slots(m, lw) % n)
    corrected = torch.where(moves, lw - aux, lw).gather(-1, index)
    increment = torch.where(moves, mean.log() + largest, 0.0)
    return Resampled(index, corrected, increment.squeeze(-1))
