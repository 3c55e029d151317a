"""A guide without gradients: one slope of the value, learned from every population that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from itscale.guides.base import View
from itscale.guides.gradient import pushed
from itscale.types import State

RIDGE = 0.5  # in units of the mean square of a particle's distance from the population's mean
ROUNDING = 1e-5  # distances below this share of a particle's norm are rounding: near noise all are alike


@dataclass(frozen=True)
class Slope:
    """A running estimate of the value's gradient with respect to the denoised sample, one for each group.

    Attributes:
        direction: (g, d), the gradient.
        trust: (g,), in [0, 1]: how much of it the newest population, which it had not seen, confirmed.
    """

    direction: Float64[Tensor, "g d"]
    trust: Float64[Tensor, " g"]

    @classmethod
    def unknown(cls, groups: int, dimension: int) -> Slope:
        """No slope at all, and no trust in it."""
        zeros = torch.zeros(groups, dimension, dtype=torch.float64)
        return cls(zeros, zeros.sum(1))

    def learn(self, denoised: Float[Tensor, "g n d"], value: Float64[Tensor, "g n"]) -> Slope:
        """Return the estimate after one more population.

        With deviations ``A`` (n, d) and ``r`` from the population's means, the old slope ``g`` moves as
        little as it must to explain what it left unexplained, up to a ridge:

            g + A^T (A A^T + ridge)^-1 (r - A g)

        So a few particles in many dimensions add up over the levels, at n^2 d operations and one vector of
        memory. The trust is the regression coefficient of ``r`` on ``A g``, ``g`` from before, reduced by the
        share of the correlation that n pairs have by chance. Particles without a value teach nothing.
        """
        known = value.isfinite()
        share = (known / known.sum(1, keepdim=True).clamp_min(1)).double()  # of each in the means
        r = torch.where(known, value, 0.0)
        r = torch.where(known, r - (share * r).sum(1, keepdim=True), 0.0)
        x = denoised.double()
        away = (x - (share[:, None] @ x)) * known[..., None]
        foretold = (away @ self.direction[..., None]).squeeze(-1)
        products = away @ away.mT
        ridge = RIDGE * products.diagonal(dim1=1, dim2=2).mean(1)
        ridge = ridge + ROUNDING**2 * x.square().sum(-1).mean(1) + 1e-30
        damped = products + ridge[:, None, None] * torch.eye(r.shape[1], dtype=torch.float64)
        missing = torch.linalg.solve(damped, (r - foretold)[..., None])
        return Slope(self.direction + (away.mT @ missing).squeeze(-1), _confirmed(foretold, r))


@dataclass(frozen=True)
class Regression:
    """``std * strength * J * trust * slope`` with a slope learned from populations before the move.

    As ``DenoisedGradient`` with an estimated gradient, the same for all particles of a group. It costs no
    network or reward call. It remembers what populations before have shown, which ``Population`` does not,
    and cannot bend: better for rewards that are nearly linear, no better for others.

    Attributes:
        slope: learned at the level that the particles are about to leave, or before.
        strength: exponent of the value ahead, () or (g,); the slope holds the tilt already.
        spread: (steps,) posterior variance per coordinate at every level.
        cap: largest norm of the shift in standard deviations of the move; None leaves it as it is.
    """

    slope: Slope
    strength: Tensor
    spread: Tensor
    cap: float | None = 1.0
    wants_context: ClassVar[bool] = False

    def __call__(self, view: View) -> State:
        x = view.here.x
        gradient = (self.slope.trust[:, None] * self.slope.direction).to(x)[view.group.to(x.device)]
        return pushed(view, gradient.reshape(x.shape), self.strength, self.spread, self.cap)


def _confirmed(foretold: Float64[Tensor, "g n"], seen: Float64[Tensor, "g n"]) -> Float64[Tensor, " g"]:
    """Share of a prediction that holds: its regression coefficient in [0, 1], less what chance explains."""
    cross = (foretold * seen).sum(1)
    square, total = foretold.square().sum(1), seen.square().sum(1)
    coefficient = torch.where(square > 0, cross / square, 0.0).clamp(0, 1)
    correlation = torch.where(square * total > 0, cross**2 / (square * total), 0.0)
    beyond_chance = (correlation - 1 / seen.shape[1]).clamp_min(0)
    return coefficient * torch.where(correlation > 0, beyond_chance / correlation, 0.0)
