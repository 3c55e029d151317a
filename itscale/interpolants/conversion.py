"""Running a model trained on one path along another."""

from __future__ import annotations

import torch

from itscale.interpolants.base import Interpolant, as_time
from itscale.types import Time


def match(source: Interpolant, target: Interpolant, s: Time | float) -> tuple[Time, Time]:
    """Find the point of ``source`` that looks like ``target`` at time ``s``.

    The denoised sample and the noise are the same at both points, ``D_target(x, s) = D_source(x / c, t)``,
    so the velocity along the target is ``alpha' D + sigma' E`` with the target's derivatives; neither ``t``
    nor ``c`` is ever differentiated.

    Args:
        source: the path the model was trained on.
        target: the path to follow.
        s: time on the target, ``()`` or ``(rows,)``.

    Returns:
        ``(t, c)``: the source time with equal ``kappa``, and the scale in ``x_target = c x_source``.

    Raises:
        ConfigError: if the source never has the noise-to-signal ratio the target has at ``s``.
    """
    s = as_time(s)
    t = source.t_of_kappa(target.kappa(s))
    alpha, sigma = source.alpha(t), source.sigma(t)
    # Both quotients are c; the larger divisor is the one that does not vanish.
    return t, torch.where(sigma >= alpha, target.sigma(s) / sigma, target.alpha(s) / alpha)
