"""The push of training-free gradient guidance: up an energy of the denoised sample, or of what leads to
it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.guides.observation import MeasuredNearby
from itscale.guides.twist import Prospect
from itscale.operators import Observed
from itscale.types import State


@dataclass(frozen=True)
class Climb:
    """``rho grad_x f(D)`` through the network and ``iterations`` steps ``mu grad f`` at the denoised sample.

    f is ``-|y - A x|`` for a measurement (in units of states), else the value ``tilt r``; with ``samples`` it
    is ``log mean exp f(x + width eps_j)``. Gradients and steps are those of a variance-preserving state,
    whatever the path of the run.

    Attributes:
        rho, mu: (moves,) strengths at every level.
        width: (moves,) standard deviation of the smoothing.
        by_ratio: divide the push through the network by the square root of the step's signal ratio.
        as_score: add the gradient to the score of the state, times rho, in place of adding it to the move.
        value: what the state is worth for the weights; None is the reward of the denoised sample.

    Reference:
        Ye et al. (2024), "TFG: Unified Training-Free Guidance for Diffusion Models", arXiv:2409.15761,
        Algorithm 1.
    """

    observed: Observed | None
    rho: tuple[float, ...]
    mu: tuple[float, ...]
    width: tuple[float, ...]
    iterations: int = 0
    samples: int = 0
    tilt: float = 1.0
    by_ratio: bool = True
    as_score: bool = False
    value: MeasuredNearby | None = None

    @property
    def backward(self) -> int:
        return int(any(self.rho))

    @property
    def calls(self) -> int:
        if self.observed is not None:
            return 1
        climbs = int(any(self.rho)) + (self.iterations if any(self.mu) else 0)
        return 1 + climbs * max(self.samples, 1)

    def __call__(self, prospect: Prospect) -> tuple[Float64[Tensor, " rows"], State]:
        level, x = prospect.level, prospect.here.x
        rho, mu = self.rho[level], self.mu[level]
        d = prospect.here.denoised
        value = self._value(prospect)
        push = torch.zeros_like(x)
        there = prospect.alpha_ahead**2 + prospect.sigma_ahead**2
        here = prospect.alpha**2 + prospect.sigma**2
        if any(self.rho):
            gradient = torch.autograd.grad(self._energy(prospect, d).sum(), x)[0]
            push += self._strength(prospect, rho * math.sqrt(here * there), here / there) * gradient
        if any(self.mu):
            climbed = d.detach()
            for _ in range(self.iterations):
                at = climbed.requires_grad_()
                climbed = (at + mu * torch.autograd.grad(self._energy(prospect, at).sum(), at)[0]).detach()
            push += prospect.alpha_ahead / prospect.pulled * (climbed - d.detach())
        return value, push

    def _strength(self, prospect: Prospect, strength: float, ratio: float) -> float:
        """The factor on a gradient; at pure noise the denoised sample does not move, and nothing is
        pushed."""
        if prospect.alpha == 0:
            return 0.0
        if self.as_score:
            return self.rho[prospect.level] * prospect.sigma**2 / prospect.alpha
        if self.by_ratio:  # of the signals: alpha^2 / (alpha^2 + sigma^2) here over that ahead
            strength *= prospect.alpha_ahead / prospect.alpha * math.sqrt(ratio)
        return strength / prospect.pulled

    def _value(self, prospect: Prospect) -> Float64[Tensor, " rows"]:
        if self.value is not None:
            return self.value(prospect)[0]
        return prospect.reward(prospect.here.denoised.detach()).detach().double()

    def _energy(self, prospect: Prospect, d: State) -> Tensor:
        width = self.width[prospect.level]
        if not self.samples:
            return self._at(prospect, d)
        around = d[:, None] + width * prospect.normals(self.samples).to(d)
        each = self._at(prospect, around.flatten(0, 1)).reshape(len(d), -1)
        return torch.logsumexp(each, 1)

    def _at(self, prospect: Prospect, d: State) -> Tensor:
        if self.observed is None:
            return self.tilt * prospect.reward(d)
        e = self.observed.gap(d, prospect.decode).flatten(1)
        return -(e.square().sum(1) + 1e-24).sqrt() / self.observed.scale


def along_levels(kind: str, alpha: Tensor, sigma: Tensor) -> tuple[float, ...]:
    """A schedule of strengths over the moves, of mean 1.

    Args:
        kind: ``"constant"``, ``"increase"`` (with the share of the signal, ``alpha^2 / (alpha^2 + sigma^2)``)
            or ``"decrease"`` (with that of the noise).
        alpha, sigma: at the levels that moves start from.
    """
    signal = alpha**2 / (alpha**2 + sigma**2)
    shape = {"constant": torch.ones_like(signal), "increase": signal, "decrease": 1 - signal}[kind]
    return tuple((shape / shape.mean()).tolist())
