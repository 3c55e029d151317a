"""Log-weights: normalisation, mean weight and measures of degeneracy.

Every function reduces the last axis (over particles) of unnormalised log-weights ``(..., n)``, works in
float64 whatever it is given, and subtracts the maximum before it exponentiates. ``-inf`` is a legal weight
of zero. A *dead* group, all ``-inf``, never produces NaN: its weights are a uniform place-holder, its mean
weight is zero, and every measure of health is 0. NaN and ``+inf`` must not get here; ``sanitize`` removes
them from incoming increments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

LogWeights = Float[Tensor, "*groups n"]


class Sanitized(NamedTuple):
    """Increments without NaN and ``+inf``, and how many of each a group had."""

    log_g: Float64[Tensor, "*groups n"]
    n_nan: Int64[Tensor, "*groups"]
    n_pos_inf: Int64[Tensor, "*groups"]


def sanitize(log_g: LogWeights) -> Sanitized:
    """Give invalid log-increments the weight zero, and count them.

    NaN becomes ``-inf`` and never 0: a NaN mapped to log-weight 0 makes an average particle of a broken
    one. ``+inf``, which is a bug in a reward, counts as ``-inf`` until the caller has raised.
    """
    log_g = log_g.to(torch.float64)
    is_nan, is_pos_inf = log_g.isnan(), log_g.isposinf()
    clean = torch.where(is_nan | is_pos_inf, -math.inf, log_g)
    return Sanitized(clean, is_nan.sum(-1), is_pos_inf.sum(-1))


def relative(lw: LogWeights) -> tuple[Float64[Tensor, "*groups n"], Float64[Tensor, "*groups 1"]]:
    """Return weights relative to the largest one, and the log of that one; all 0 in a dead group."""
    lw = lw.to(torch.float64)
    # Clamped to the least finite number, so that a dead group takes -inf from it and not from itself.
    largest = lw.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).min)
    return (lw - largest).exp_(), largest


def is_dead(lw: LogWeights) -> Bool[Tensor, "*groups"]:
    """Tell which groups have no particle of positive weight."""
    return lw.amax(-1) == -math.inf


def normalise(lw: LogWeights) -> Float64[Tensor, "*groups n"]:
    """Return weights that sum to one; ``1/n`` each in a dead group."""
    w, _ = relative(lw)
    total = w.sum(-1, keepdim=True)
    return torch.where(total > 0, w / total, 1.0 / w.shape[-1])


def log_mean_exp(lw: LogWeights) -> Float64[Tensor, "*groups"]:
    """Return the log of the mean weight, the evidence that uncollected weights stand for."""
    return _log_mean(*relative(lw))


def _log_mean(w: Tensor, largest: Tensor) -> Tensor:
    return w.mean(-1).log() + largest.squeeze(-1)


def effective_sample_size(lw: LogWeights) -> Float64[Tensor, "*groups"]:
    """Return ``(sum w)^2 / sum w^2``, between 1 and ``n``; 0 in a dead group."""
    return _ess(relative(lw)[0])


def _ess(w: Tensor) -> Tensor:
    ess = w.sum(-1).square() / w.square().sum(-1).clamp_min(torch.finfo(torch.float64).tiny)
    return ess.clamp_max(w.shape[-1])


class Health(NamedTuple):
    """What a step is told by: see ``effective_sample_size``, ``normalise`` and ``log_mean_exp``."""

    ess: Float64[Tensor, "*groups"]
    largest: Float64[Tensor, "*groups"]
    log_mean: Float64[Tensor, "*groups"]


def health(lw: LogWeights) -> Health:
    """Effective sample size, largest normalised weight and log of the mean weight, from one pass.

    The largest is ``1/n`` in a dead group, as ``normalise`` has it.
    """
    w, largest = relative(lw)
    total = w.sum(-1)
    top = torch.where(total > 0, w.amax(-1) / total, 1.0 / w.shape[-1])
    return Health(_ess(w), top, _log_mean(w, largest))


def conditional_ess(
    lw: Float[Tensor, "*#groups n"], d: Float[Tensor, "*#groups n"]
) -> Float64[Tensor, "*groups"]:
    """Return the conditional effective sample size of an increment ``d`` against the weights ``lw``.

    ``n (sum W e^d)^2 / sum W e^{2d}`` with ``W`` the normalised weights. Along ``delta * ell`` it
    decreases in ``delta``, which the plain effective sample size does only for equal weights; so
    tempering bisects this one.

    Args:
        lw: current log-weights; broadcast against ``d``.
        d: incremental log-weights, finite or ``-inf``.

    Returns:
        Values between 0 and ``n``; 0 where no particle survives the increment.

    Reference:
        Zhou, Johansen and Aston (2016), "Toward Automatic Model Comparison: An Adaptive Sequential Monte
        Carlo Approach", arXiv:1303.3123, section 3.2.2.
    """
    log_w = lw.to(torch.float64) - torch.logsumexp(lw.to(torch.float64), -1, keepdim=True)
    first = torch.logsumexp(log_w + d, -1)
    second = torch.logsumexp(log_w + 2.0 * d.to(torch.float64), -1)
    # A dead group has NaN in log_w; no comparison with NaN holds, so it takes the 0.
    cess = lw.shape[-1] * torch.exp(2.0 * first - second)
    return torch.where(first > -math.inf, cess, 0.0)


def perplexity(lw: LogWeights) -> Float64[Tensor, "*groups"]:
    """Return ``exp`` of the entropy of the weights, between 1 and ``n``; 0 in a dead group."""
    w = normalise(lw)
    return torch.where(is_dead(lw), 0.0, torch.exp(-torch.special.xlogy(w, w).sum(-1)))


def max_weight(lw: LogWeights) -> Float64[Tensor, "*groups"]:
    """Return the largest normalised weight; 0 in a dead group."""
    return torch.where(is_dead(lw), 0.0, normalise(lw).amax(-1))
