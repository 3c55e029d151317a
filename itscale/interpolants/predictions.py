"""Velocity, noise, denoised sample and score from one network output: the only place with this algebra.

With ``x = alpha D + sigma E``, where ``D = E[x_1 | x_t]`` is the denoised sample and ``E = E[x_0 | x_t]`` the
noise, ``velocity = alpha' D + sigma' E``, ``score = -E / sigma`` and ``v = alpha E - sigma D`` (this form on
every path; where ``alpha^2 + sigma^2 = 1`` it is the v-prediction of Salimans and Ho, arXiv:2202.00512).
Each conversion is ``p x + q raw`` with factors found in float64: one or two passes over the states, in their
dtype. Factors at one time for all rows are found once: a sampler comes to the same times again and again.

A quantity that a prediction does not determine at some time (the data mean where ``alpha = 0`` from a noise
prediction, the score where ``sigma = 0``) raises instead of returning an infinity.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from itscale.errors import ConfigError, unknown_name
from itscale.interpolants.base import Interpolant, as_time
from itscale.types import State, Time, expand_over_event

Kind = Literal["velocity", "noise", "denoised", "v"]
KINDS: tuple[str, ...] = get_args(Kind)
Factors: TypeAlias = tuple[Time, Time]
"""``p`` and ``q``."""


@dataclass(frozen=True)
class Coefficients:
    """``alpha, sigma`` and their time derivatives in float64: ``()``, or ``(rows,)`` with a time per row."""

    alpha: Time
    sigma: Time
    d_alpha: Time
    d_sigma: Time
    found: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict, compare=False, repr=False)
    """Factors ``p`` and ``q`` by what is wanted and what is predicted, for a time ``()``."""

    @property
    def wronskian(self) -> Time:
        """``alpha' sigma - alpha sigma' > 0``."""
        return self.d_alpha * self.sigma - self.alpha * self.d_sigma


def coefficients(interpolant: Interpolant, t: Time | float) -> Coefficients:
    """Evaluate a path at a time ``()``, which is remembered, or at one time per row ``(rows,)``."""
    t = as_time(t)
    if t.ndim == 0 and t.device.type == "cpu" and not t.requires_grad and is_fixed(interpolant):
        return _remembered(interpolant, float(t))
    return _evaluated(interpolant, t)


@functools.lru_cache(maxsize=4096)
def _remembered(interpolant: Interpolant, t: float) -> Coefficients:
    return _evaluated(interpolant, as_time(t))


def is_fixed(setting: Any) -> bool:
    """Whether a path or the like is a frozen dataclass of plain settings: others may change meanwhile."""
    parameters = getattr(type(setting), "__dataclass_params__", None)
    try:
        return parameters is not None and parameters.frozen and hash(setting) is not None
    except TypeError:
        return False


def _evaluated(interpolant: Interpolant, t: Tensor) -> Coefficients:
    return Coefficients(
        interpolant.alpha(t), interpolant.sigma(t), interpolant.d_alpha(t), interpolant.d_sigma(t)
    )


def denoised(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Denoised sample ``E[x_1 | x_t]``. Undetermined for ``kind="noise"`` where ``alpha = 0``."""
    if kind == "denoised":
        return raw.to(x.dtype)
    return _combine("denoised sample", kind, x, raw, c, _denoised_factors)


def _denoised_factors(kind: Kind, c: Coefficients) -> Factors:
    alpha, sigma = c.alpha, c.sigma
    if kind == "velocity":
        clean, wronskian = sigma == 0, c.wronskian
        # Where sigma = 0, x = alpha D whatever the velocity; sigma' and the Wronskian may be infinite there.
        on_state = torch.where(clean, 1 / alpha, -c.d_sigma / wronskian)
        return on_state, torch.where(clean, torch.zeros_like(sigma), sigma / wronskian)
    if kind == "noise":
        return 1 / alpha, -sigma / alpha
    if kind == "v":
        power = alpha**2 + sigma**2
        return alpha / power, -sigma / power
    raise unknown_name("prediction", kind, KINDS)


def denoised_factors(kind: Kind, c: Coefficients) -> tuple[float, float]:
    """``p`` and ``q`` of the denoised sample ``p x + q raw`` at a time ``()``."""
    return (0.0, 1.0) if kind == "denoised" else _known("denoised sample", kind, c, _denoised_factors)


def noise(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Noise ``E[x_0 | x_t]``; where ``sigma = 0`` a denoised sample gives its exact value there, 0."""
    if kind == "noise":
        return raw.to(x.dtype)
    return _combine("noise", kind, x, raw, c, _noise_factors)


def _noise_factors(kind: Kind, c: Coefficients) -> Factors:
    alpha, sigma = c.alpha, c.sigma
    if kind == "velocity":
        wronskian = c.wronskian
        return c.d_alpha / wronskian, -alpha / wronskian
    if kind == "denoised":
        inverse = torch.where(sigma == 0, torch.zeros_like(sigma), 1 / sigma)
        return inverse, -alpha * inverse
    if kind == "v":
        power = alpha**2 + sigma**2
        return sigma / power, alpha / power
    raise unknown_name("prediction", kind, KINDS)


def velocity(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Velocity ``E[alpha' x_1 + sigma' x_0 | x_t]``.

    Undetermined for ``kind="noise"`` where ``alpha = 0``, and for all but ``"velocity"`` where ``sigma'`` is
    infinite.
    """
    if kind == "velocity":
        return raw.to(x.dtype)
    return _combine("velocity", kind, x, raw, c, _velocity_factors)


def _velocity_factors(kind: Kind, c: Coefficients) -> Factors:
    alpha, sigma = c.alpha, c.sigma
    if kind == "noise":
        return c.d_alpha / alpha, -c.wronskian / alpha
    if kind == "denoised":
        # Where sigma = 0 the noise is 0 and the velocity is alpha' D, unless sigma' is infinite.
        clean = (sigma == 0) & torch.isfinite(c.d_sigma)
        on_state = torch.where(clean, torch.zeros_like(sigma), c.d_sigma / sigma)
        return on_state, torch.where(clean, c.d_alpha, c.wronskian / sigma)
    if kind == "v":
        power = alpha**2 + sigma**2
        return (alpha * c.d_alpha + sigma * c.d_sigma) / power, -c.wronskian / power
    raise unknown_name("prediction", kind, KINDS)


def score(kind: Kind, raw: State, x: State, c: Coefficients) -> State:
    """Score ``grad log p_t(x_t)``. Undetermined where ``sigma = 0``, by every kind of prediction."""
    return _combine("score", kind, x, raw, c, _score_factors)


def _score_factors(kind: Kind, c: Coefficients) -> Factors:
    alpha, sigma = c.alpha, c.sigma
    if kind == "velocity":
        divisor = sigma * c.wronskian
        return -c.d_alpha / divisor, alpha / divisor
    if kind == "noise":
        return torch.zeros_like(sigma), -1 / sigma
    if kind == "denoised":
        return -1 / sigma**2, alpha / sigma**2
    if kind == "v":
        power = alpha**2 + sigma**2
        return -1 / power, -alpha / (sigma * power)
    raise unknown_name("prediction", kind, KINDS)


def raw_from(kind: Kind, denoised: State, noise: State, c: Coefficients) -> State:
    """The output a network of this kind gives when it means this denoised sample and this noise."""
    if kind == "denoised":
        return denoised
    if kind == "noise":
        return noise
    if kind == "velocity":
        return _combine("velocity", _BOTH, denoised, noise, c, lambda _, c: (c.d_alpha, c.d_sigma))
    if kind == "v":
        return _combine("v", _BOTH, denoised, noise, c, lambda _, c: (-c.sigma, c.alpha))
    raise unknown_name("prediction", kind, KINDS)


_BOTH = "denoised sample and noise"


def _combine(
    wanted: str,
    kind: str,
    x: State,
    raw: State,
    c: Coefficients,
    factors: Callable[[Any, Coefficients], Factors],
) -> State:
    """``p x + q raw``; never scales ``raw`` by itself, which may be in half precision."""
    if c.alpha.ndim == 0:
        scale, step = _known(wanted, kind, c, factors)
        if scale == 0:
            return raw.to(x.dtype) * step
        if scale != 1 and x.dtype == raw.dtype:
            return (x * scale).add_(raw, alpha=step)  # a state less to allocate
        return torch.add(x if scale == 1 else x * scale, raw, alpha=step)
    p, q = factors(kind, c)
    if not bool((torch.isfinite(p) & torch.isfinite(q)).all()):
        raise _undetermined(wanted, kind)
    return torch.addcmul(x * expand_over_event(p, x), raw.to(x.dtype), expand_over_event(q, x))


def _known(
    wanted: str, kind: str, c: Coefficients, factors: Callable[[Any, Coefficients], Factors]
) -> tuple[float, float]:
    """The factors at a time ``()``."""
    if (wanted, kind) not in c.found:
        p, q = factors(kind, c)
        c.found[wanted, kind] = float(p), float(q)
    found = c.found[wanted, kind]
    if not (math.isfinite(found[0]) and math.isfinite(found[1])):
        raise _undetermined(wanted, kind)
    return found


def _undetermined(wanted: str, kind: str) -> ConfigError:
    return ConfigError(
        f"the {wanted} does not follow from the {kind} at an end of this path (alpha = 0 or sigma = 0); "
        "start later (t_start > 0), or stop earlier and finish with the denoised sample"
    )
