"""Velocity, noise, denoised sample and score from one network output: the only place with this algebra.

With ``x = alpha D + sigma E``, where ``D = E[x_1 | x_t]`` is the denoised sample and ``E = E[x_0 | x_t]`` the
noise, ``velocity = alpha' D + sigma' E``, ``score = -E / sigma`` and ``v = alpha E - sigma D`` (this form on
every path; where ``alpha^2 + sigma^2 = 1`` it is the v-prediction of Salimans and Ho, arXiv:2202.00512).
Each conversion is ``p x + q raw`` with factors found in float64: one or two passes over the states, in their
dtype.

A quantity that a prediction does not determine at some time (the data mean where ``alpha = 0`` from a noise
prediction, the score where ``sigma = 0``) raises instead of returning an infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from itscale.errors import ConfigError, unknown_name
from itscale.interpolants.base import Interpolant, as_time
from itscale.types import State, Time, expand_over_event

Kind = Literal["velocity", "noise", "denoised", "v"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Coefficients:
    """``alpha, sigma`` and their time derivatives in float64: ``()``, or ``(rows,)`` with a time per row."""

    alpha: Time
    sigma: Time
    d_alpha: Time
    d_sigma: Time

    @property
    def wronskian(self) -> Time:
        """``alpha' sigma - alpha sigma' > 0``."""
        return self.d_alpha * self.sigma - self.alpha * self.d_sigma


def coefficients(interpolant: Interpolant, t: Time | float) -> Coefficients:
    """Evaluate a path at a time ``()`` or at one time per row ``(rows,)``."""
    t = as_time(t)
    return Coefficients(
        interpolant.alpha(t), interpolant.sigma(t), interpolant.d_alpha(t), interpolant.d_sigma(t)
    )


def denoised(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Denoised sample ``E[x_1 | x_t]``. Undetermined for ``kind="noise"`` where ``alpha = 0``."""
    alpha, sigma = c.alpha, c.sigma
    if kind == "denoised":
        return raw.to(x.dtype)
    if kind == "velocity":
        clean, wronskian = sigma == 0, c.wronskian
        # Where sigma = 0, x = alpha D whatever the velocity; sigma' and the Wronskian may be infinite there.
        p = torch.where(clean, 1 / alpha, -c.d_sigma / wronskian)
        q = torch.where(clean, torch.zeros_like(sigma), sigma / wronskian)
    elif kind == "noise":
        p, q = 1 / alpha, -sigma / alpha
    elif kind == "v":
        power = alpha**2 + sigma**2
        p, q = alpha / power, -sigma / power
    else:
        raise unknown_name("prediction", kind, KINDS)
    return _combine("denoised sample", kind, x, p, raw, q)


def noise(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Noise ``E[x_0 | x_t]``; where ``sigma = 0`` a denoised sample gives its exact value there, 0."""
    alpha, sigma = c.alpha, c.sigma
    if kind == "noise":
        return raw.to(x.dtype)
    if kind == "velocity":
        wronskian = c.wronskian
        p, q = c.d_alpha / wronskian, -alpha / wronskian
    elif kind == "denoised":
        inverse = torch.where(sigma == 0, torch.zeros_like(sigma), 1 / sigma)
        p, q = inverse, -alpha * inverse
    elif kind == "v":
        power = alpha**2 + sigma**2
        p, q = sigma / power, alpha / power
    else:
        raise unknown_name("prediction", kind, KINDS)
    return _combine("noise", kind, x, p, raw, q)


def velocity(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Velocity ``E[alpha' x_1 + sigma' x_0 | x_t]``.

    Undetermined for ``kind="noise"`` where ``alpha = 0``, and for all but ``"velocity"`` where ``sigma'`` is
    infinite.
    """
    alpha, sigma = c.alpha, c.sigma
    if kind == "velocity":
        return raw.to(x.dtype)
    if kind == "noise":
        p, q = c.d_alpha / alpha, -c.wronskian / alpha
    elif kind == "denoised":
        # Where sigma = 0 the noise is 0 and the velocity is alpha' D, unless sigma' is infinite.
        clean = (sigma == 0) & torch.isfinite(c.d_sigma)
        p = torch.where(clean, torch.zeros_like(sigma), c.d_sigma / sigma)
        q = torch.where(clean, c.d_alpha, c.wronskian / sigma)
    elif kind == "v":
        power = alpha**2 + sigma**2
        p, q = (alpha * c.d_alpha + sigma * c.d_sigma) / power, -c.wronskian / power
    else:
        raise unknown_name("prediction", kind, KINDS)
    return _combine("velocity", kind, x, p, raw, q)


def score(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Score ``grad log p_t(x_t)``. Undetermined where ``sigma = 0``, by every kind of prediction."""
    alpha, sigma = c.alpha, c.sigma
    if kind == "velocity":
        divisor = sigma * c.wronskian
        p, q = -c.d_alpha / divisor, alpha / divisor
    elif kind == "noise":
        p, q = torch.zeros_like(sigma), -1 / sigma
    elif kind == "denoised":
        p, q = -1 / sigma**2, alpha / sigma**2
    elif kind == "v":
        power = alpha**2 + sigma**2
        p, q = -1 / power, -alpha / (sigma * power)
    else:
        raise unknown_name("prediction", kind, KINDS)
    return _combine("score", kind, x, p, raw, q)


def raw_from(kind: Kind, denoised: State, noise: State, c: Coefficients) -> State:
    """The output a network of this kind gives when it means this denoised sample and this noise."""
    if kind == "denoised":
        return denoised
    if kind == "noise":
        return noise
    if kind == "velocity":
        return _combine("velocity", "denoised sample and noise", denoised, c.d_alpha, noise, c.d_sigma)
    if kind == "v":
        return _combine("v", "denoised sample and noise", denoised, -c.sigma, noise, c.alpha)
    raise unknown_name("prediction", kind, KINDS)


def _combine(wanted: str, kind: str, x: State, p: Time, raw: State, q: Time) -> State:
    """``p x + q raw``; never scales ``raw`` by itself, which may be in half precision."""
    if p.ndim == 0:
        scale, step = float(p), float(q)
        if not (math.isfinite(scale) and math.isfinite(step)):
            raise _undetermined(wanted, kind)
        if scale == 0:
            return raw.to(x.dtype) * step
        return torch.add(x if scale == 1 else x * scale, raw, alpha=step)
    if not bool((torch.isfinite(p) & torch.isfinite(q)).all()):
        raise _undetermined(wanted, kind)
    return torch.addcmul(x * expand_over_event(p, x), raw.to(x.dtype), expand_over_event(q, x))


def _undetermined(wanted: str, kind: str) -> ConfigError:
    return ConfigError(
        f"the {wanted} does not follow from the {kind} at an end of this path (alpha = 0 or sigma = 0); "
        "start later (t_start > 0), or stop earlier and finish with the denoised sample"
    )
