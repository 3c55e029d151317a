"""Moves that draw clean data given the measurement and noise them again: DAPS, and the likelihood half of
PnP-DM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itscale.operators import Decode, Linearised, Observed
from itscale.process import Evaluation
from itscale.solvers.base import Look, Move, Surroundings
from itscale.solvers.leg import Leg
from itscale.solvers.projections import MeasuredMove
from itscale.types import State, expand_over_event


@dataclass(frozen=True, eq=False)
class DAPSStep(MeasuredMove):
    """To the data by the ODE, a draw of ``N(x, r^2 I) p(y | x)`` around it, and noise of the next level on
    top.

    Attributes:
        legs: the ODE from every level to the data; None where the denoised sample will do.
        langevin: steps of the draw where it is not Gaussian.
        widest: largest r^2.

    Reference:
        Zhang et al. (2024), "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing",
        arXiv:2407.01521, Algorithm 1.
    """

    legs: tuple[Leg | None, ...] = ()
    langevin: int = 0
    widest: float = 1.0

    def is_noisy(self, level: int) -> bool:
        return True

    def extra_looks(self, level: int) -> int:
        leg = self.legs[level]
        return 0 if leg is None else leg.looks

    def shares(self, level: int) -> tuple[float, ...]:
        count = 1 + draws_needed(self.observed, self.langevin)
        return (1.0, *[0.0] * (count - 1))

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        assert z is not None
        leg = self.legs[level]
        centre = at.denoised if leg is None else leg(at, look)
        variance = min(self.square(level), self.widest)
        x = given_measurement(self.observed, centre, variance, z[:, 1:], self.decode)
        if self.is_last(level):
            return Move(x)
        return Move(self.alpha[level + 1] * x + self.sigma[level + 1] * z[:, 0])


@dataclass(frozen=True, eq=False)
class LikelihoodStep:
    """From clean data x to ``alpha z`` with ``z ~ N(x, rho^2 I) p(y | z)``: a noisy state at the level rho.

    Rows need no look before it.

    Attributes:
        rho: coupling, the noise-to-signal ratio of the level that it ends at.
        alpha: of that level.
        langevin: steps of the draw where it is not Gaussian.

    Reference:
        Wu et al. (2024), "Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors",
        arXiv:2405.18782, Algorithm 1.
    """

    observed: Observed
    rho: float
    alpha: float
    langevin: int = 0
    decode: Decode | None = None
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False
    is_blind: bool = True

    def placed(self, around: Surroundings) -> LikelihoodStep:
        return replace(self, decode=around.decode)

    def is_noisy(self, level: int) -> bool:
        return True

    def extra_looks(self, level: int) -> int:
        return 0

    def shares(self, level: int) -> tuple[float, ...]:
        return (1.0, *[0.0] * (draws_needed(self.observed, self.langevin) - 1))

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert z is not None
        return Move(self.alpha * given_measurement(self.observed, at.x, self.rho**2, z, self.decode))


def draws_needed(observed: Observed, langevin: int) -> int:
    """How many normals of a state's size a draw given the measurement takes."""
    if observed.is_spectral and not langevin:
        return 1
    if observed.is_linear and not langevin:
        event = math.prod(observed.likelihood.operator.event_shape)
        return 1 + math.ceil(observed.likelihood.operator.size / event)
    return max(langevin, 1)


def given_measurement(
    observed: Observed, centre: State, variance: float, z: Tensor, decode: Decode | None
) -> State:
    """Draw from ``N(centre, variance I) p(y | x)``, exactly for a linear operator and Gaussian noise.

    With a decomposition it is done coordinate by coordinate, else by perturbing and solving; for what is not
    linear
    by as many Langevin steps as there are normals, preconditioned by the curvature, which is approximate.

    Args:
        z: normals (rows, count, *event), as many as ``draws_needed``.
        decode: states to samples.
    """
    assert decode is not None, "moves with a measurement are placed where rows live"
    if observed.is_spectral and z.shape[1] == 1:
        c = observed.coordinates
        v, e = (observed.spectral.to_spectral(t) for t in (centre, z[:, 0]))
        v = v + math.sqrt(variance) * e
        index = c.index.to(v.device)
        tau, value = c.tau.to(v), c.value.to(v)
        gain = variance / (variance + tau**2)
        mean = observed.spectral.to_spectral(centre)[:, index]
        v[:, index] = mean + gain * (value - mean) + tau * gain.sqrt() * e[:, index]
        return observed.spectral.from_spectral(v)
    if observed.is_linear and z.shape[1] == draws_needed(observed, 0):
        prior = centre + math.sqrt(variance) * z[:, 0]
        e = observed.gap(prior, decode)
        e = e + observed.std * z[:, 1:].flatten(1)[:, : e[0].numel()].reshape(e.shape)
        return prior + variance * observed.lift(observed.solve(e, variance))
    square = Linearised(observed, centre, decode).square / observed.std**2
    step, x = expand_over_event(0.2 / (1 / variance + square), centre), centre
    for k in range(z.shape[1]):
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            pull = torch.autograd.grad(observed.log_prob(at, decode).sum(), at)[0]
        x = x + step * (pull - (x - centre) / variance) + (2 * step).sqrt() * z[:, k]
    return x
