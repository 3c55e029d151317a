"""Guides along the gradient of the reward, through the network or only to the denoised sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.guides.base import View, capped
from itscale.types import State, expand_over_event


@dataclass(frozen=True)
class NetworkGradient:
    """``std * strength * grad_x r(D(x))``: the gradient taken through decoder, reward and network.

    Attributes:
        strength: exponent of the value ahead times the tilt; () or (g,).
        cap: largest norm of the shift, in standard deviations of the move; None leaves it as it is.

    Reference:
        Wu et al. (2023), arXiv:2306.17775, section 3.2; Kim et al. (2025), "Test-time Alignment of Diffusion
        Models without Reward Over-optimization", arXiv:2501.05803, eq. (9).
    """

    strength: Tensor
    cap: float | None = None
    wants_context: ClassVar[bool] = False

    def __call__(self, view: View) -> State:
        assert view.gradient is not None, "the look before this move kept no gradient"
        shift = view.factor(view.bridge.std) * _per_row(self.strength, view) * view.gradient
        return capped(shift, self.cap)


@dataclass(frozen=True)
class DenoisedGradient:
    """``std * strength * J grad_D r(D)``, with the number ``J = alpha c / sigma^2`` for the Jacobian of D.

    The gradient goes through reward and decoder only, so the network runs once, forward. The Jacobian of the
    denoised sample is ``alpha / sigma^2`` times the posterior covariance of the data; here that covariance
    is ``c`` times the identity, ``c`` its mean over coordinates one level ahead.

    Attributes:
        strength: exponent of the value ahead times the tilt; () or (g,).
        spread: (steps,) posterior variance per coordinate at every level.
        cap: largest norm of the shift in standard deviations of the move; None leaves it as it is.
    """

    strength: Tensor
    spread: Tensor
    cap: float | None = 1.0
    wants_context: ClassVar[bool] = False

    def __call__(self, view: View) -> State:
        assert view.gradient is not None, "the score before this move kept no gradient"
        return pushed(view, view.gradient, self.strength, self.spread, self.cap)


def pushed(view: View, gradient: State, strength: Tensor, spread: Tensor, cap: float | None) -> State:
    """Return the shift along a gradient with respect to the denoised sample; arguments as above."""
    bridge = view.bridge
    jacobian = bridge.alpha[:-1] * spread / bridge.sigma[:-1] ** 2
    scale = view.factor(bridge.std) * view.factor(jacobian, 1) * _per_row(strength, view)
    return capped(scale * gradient, cap)


def _per_row(strength: Tensor, view: View) -> Tensor:
    """A strength for all or for each group, shaped to multiply states."""
    return expand_over_event(strength if strength.ndim == 0 else strength[view.group], view.here.x)
