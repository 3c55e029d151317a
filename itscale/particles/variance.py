"""Monte Carlo error estimated from a single run, by the particles' time-0 ancestors (eves).

Valid for multinomial resampling only; every function returns None for another scheme, for which
independent groups give an honest figure. Below about ten distinct eves (``n_distinct``) the estimates are
unreliable: the terms they are made of are then nearly all in one family.

Reference:
    Chan and Lai (2013), "A general theory of particle filters in hidden Markov models and some
    applications", arXiv:1312.5114; Lee and Whiteley (2018), "Variance estimation in the particle filter",
    arXiv:1509.00394, eqs. (4)-(6).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.particles.schemes import Scheme, get_scheme
from itscale.particles.weights import is_dead, normalise


def n_distinct(eves: Int[Tensor, "g n"]) -> Int64[Tensor, " g"]:
    """Return the number of distinct eves, which lie in ``0..n-1``."""
    return torch.zeros_like(eves, dtype=torch.int64).scatter_(-1, eves.to(torch.int64), 1).sum(-1)


def mean_variance(
    log_weights: Float[Tensor, "g n"],
    phi: Float[Tensor, "g n"],
    eves: Int[Tensor, "g n"],
    n_resamplings: Int[Tensor, " g"],
    scheme: str | Scheme,
) -> Float64[Tensor, " g"] | None:
    """Estimate the variance of the weighted mean of ``phi``.

    Args:
        log_weights: carried log-weights of the present particles, ``n`` constant over the run.
        phi: the function's value at each particle.
        eves: time-0 slot of each particle's ancestor.
        n_resamplings: how often each group was resampled.
        scheme: the scheme that was used throughout.

    Returns:
        Variances, ``inf`` in a dead group; None unless the scheme is multinomial.

    Raises:
        ConfigError: with one particle, which says nothing about its variance.
    """
    if not _is_multinomial(scheme):
        return None
    w = normalise(log_weights)
    phi = phi.to(torch.float64)
    centred = phi - (w * phi).sum(-1, keepdim=True)
    spread = _family_sums(w * centred, eves).square().sum(-1)
    return torch.where(is_dead(log_weights), math.inf, _inflation(w, n_resamplings) * spread)


def evidence_relative_variance(
    log_weights: Float[Tensor, "g n"],
    eves: Int[Tensor, "g n"],
    n_resamplings: Int[Tensor, " g"],
    scheme: str | Scheme,
) -> Float64[Tensor, " g"] | None:
    """Estimate the variance of the evidence relative to its square.

    The mean of ``Z_hat^2`` times this is the variance of ``Z_hat`` exactly. It is centred: without the
    subtraction from one, the value for constant potentials would be about ``(r + 1)/n`` in place of 0.
    Arguments, errors and the cases ``inf`` and None as in ``mean_variance``.
    """
    if not _is_multinomial(scheme):
        return None
    w = normalise(log_weights)
    same_family = _family_sums(w, eves).square().sum(-1)
    estimate = 1.0 - _inflation(w, n_resamplings) * (1.0 - same_family)
    return torch.where(is_dead(log_weights), math.inf, estimate)


def _is_multinomial(scheme: str | Scheme) -> bool:
    return get_scheme(scheme).name == "multinomial"


def _family_sums(values: Float64[Tensor, "g n"], eves: Int[Tensor, "g n"]) -> Float64[Tensor, "g n"]:
    return torch.zeros_like(values).scatter_add_(-1, eves.to(torch.int64), values)


def _inflation(w: Float64[Tensor, "g n"], n_resamplings: Int[Tensor, " g"]) -> Float64[Tensor, " g"]:
    n = w.shape[-1]
    if n < 2:
        raise ConfigError(f"n={n} particle: a single-run variance needs at least two, or independent groups")
    return (n / (n - 1.0)) ** (n_resamplings.to(torch.float64) + 1.0)
