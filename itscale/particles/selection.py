"""Selection among candidates: distinct survivors, and one child per parent.

The evidence convention is that of ``resampling``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.particles.schemes import SMALLEST, Uniforms, Weights, cumulative, round_fractions
from itscale.particles.weights import log_mean_exp, normalise


class Distinct(NamedTuple):
    """Distinct candidates and their log-weights."""

    kept: Int64[Tensor, "g m"]
    log_weights: Float64[Tensor, "g m"]


class Selected(NamedTuple):
    """The child chosen for each parent, and the mean weight of its siblings and itself."""

    child: Int64[Tensor, "g n"]
    log_mean: Float64[Tensor, "g n"]


def without_duplicates(weights: Weights, m: int, u: Uniforms) -> Distinct:
    """Keep ``m`` distinct candidates out of ``n``, with weights that make the thinning unbiased.

    Candidate ``i`` is kept with probability ``p_i = min(1, W_i/c)``, where ``c`` solves ``sum p_i = m``,
    and then weighs ``W_i/p_i = max(W_i, c)``. So heavy candidates are kept for certain with the weight they
    have. The right resampling for trees and beams, where copies are wasted; bit-equal states must be
    merged (weights added) before. The draw is the SSP tournament, which never keeps one twice.

    Args:
        weights: any positive multiple of the normalised weights ``W``.
        m: number to keep, at most ``n``.
        u: ``(g, tournament_size(n))`` uniforms.

    Returns:
        Candidates in increasing order, and log-weights in the mean convention of ``resample``:
        ``mean_j exp(log_weights_j) f(x_j)`` has the mean ``sum_i W_i f(x_i)``, so equal weights give 0, and
        the caller adds ``log_mean_exp`` of the input to the evidence. With fewer than ``m`` positive
        weights all of them are kept, followed by candidates of weight ``-inf``.

    Raises:
        ConfigError: if ``m`` is not in ``1..n``.

    Reference:
        Fearnhead and Clifford (2003), "On-line inference for hidden Markov models via particle filters",
        section 3.2 and appendix (there with stratified sampling).
    """
    g, n = weights.shape
    if not 1 <= m <= n:
        raise ConfigError(f"m={m} distinct survivors of n={n} candidates: m must be from 1 to {n}")
    w = weights / weights.sum(-1, keepdim=True).clamp_min(SMALLEST)
    c = _threshold(w, m)
    certain = (w >= c) & (w > 0)
    chosen = certain | (round_fractions(torch.where(certain, 0.0, w / c.clamp_min(SMALLEST)), u) > 0)
    # Chosen candidates go to the front in slot order, the others behind them; the first m are returned.
    rank = torch.where(chosen, chosen.cumsum(-1), chosen.sum(-1, keepdim=True) + (~chosen).cumsum(-1)) - 1
    slot = torch.arange(n, device=w.device).expand(g, n)
    index = torch.empty_like(slot).scatter_(-1, rank, slot)[:, :m]
    log_w = torch.where(chosen, torch.log(m * torch.maximum(w, c)), -math.inf)
    return Distinct(index, log_w.gather(-1, index))


def _threshold(w: Weights, m: int) -> Float64[Tensor, "g 1"]:
    """Solve ``sum_i min(1, w_i/c) = m`` for ``c``; 0 if fewer than ``m`` weights are positive."""
    w = w.sort(-1, descending=True).values
    rest = w.flip(-1).cumsum(-1).flip(-1)[:, :m]  # sum of w_k and everything lighter
    c = rest / torch.arange(m, 0, -1, device=w.device)
    n_certain = (w[:, :m] > c).to(torch.int64).cumprod(-1).sum(-1, keepdim=True)
    return c.gather(-1, n_certain.clamp_max(m - 1))


def select_children(
    log_w: Float[Tensor, "g n m"], u: Float64[Tensor, "g n"], argmax: bool = False
) -> Selected:
    """Choose one of the ``m`` children of every parent, in proportion to its weight or the best one.

    Adding ``log_mean`` to the parent's log-weight is nested SMC and leaves the evidence unbiased when the
    child is drawn; dropping it is the soft value method as published, and void as evidence, as is
    ``argmax``.

    Args:
        log_w: log-weights of the children (no NaN); float64 from here on.
        u: one uniform per parent. Among equally good children ``argmax`` draws one at random with it.
        argmax: take the heaviest child.

    Returns:
        Child numbers in ``0..m-1`` (child ``c`` of slot ``i`` lies at ``i*m + c`` in the flat layout), and
        ``log_mean_exp`` over the children, ``-inf`` where all have weight zero.
    """
    log_w = log_w.to(torch.float64)
    w = (log_w == log_w.amax(-1, keepdim=True)).to(torch.float64) if argmax else normalise(log_w)
    c = cumulative(w.flatten(0, 1)).view_as(w)
    return Selected((c <= u[..., None]).sum(-1), log_mean_exp(log_w))
