"""A guide for moves among noises: the Langevin drift of the value on top of a Crank-Nicolson step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from itscale.guides.base import View, capped
from itscale.types import State


@dataclass(frozen=True)
class Langevin:
    """The drift ``(1 - c) grad l(y)`` of ``y' = c y + (1 - c) grad l(y) + sqrt(1 - c^2) z``, as a shift of z.

    y is unit noise, ``x = s y`` the state and ``l = strength r(D(x))``; so ``grad_y = s grad_x``. The step
    is the Crank-Nicolson discretisation of a Langevin diffusion that keeps ``N(0, I) exp(l)``; for an affine
    l it keeps that law exactly, for any other after a Metropolis correction.

    Attributes:
        strength: the tilt.
        cosine: c, of the ``Neighbour`` moves that it guides.
        cap: largest norm of the shift; None leaves it as it is.

    Reference:
        Cotter, Roberts, Stuart and White (2013), "MCMC Methods for Functions" (pCNL); with their step delta,
        ``c = (2 - delta) / (2 + delta)``.
    """

    strength: float
    cosine: float
    cap: float | None = None
    wants_context: ClassVar[bool] = False

    def __call__(self, view: View) -> State:
        assert view.gradient is not None, "the look before this move kept no gradient"
        s = float(view.here.interpolant.sigma(float(view.here.t)))
        pull = self.strength * s * math.sqrt((1 - self.cosine) / (1 + self.cosine))
        return capped(pull * view.gradient, self.cap)
