"""Moves of a point that is optimised while noise falls: RED-diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.operators import Linearised
from itscale.process import Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.projections import MeasuredMove
from itscale.types import State

BETAS = (0.9, 0.99)
TINY = 1e-8


@dataclass(frozen=True, eq=False)
class REDDiffStep(MeasuredMove):
    """A step of Adam on ``|y - A mu|^2 / (2 noise^2) + weight s (n - e) . mu``, then noise on mu.

    n is the noise that the model sees in ``alpha mu + sigma e``; it is held fixed, so that the second term
    pulls mu towards the denoised sample with the same force at all levels. A row remembers mu and Adam's two
    moments.

    Attributes:
        weight: lambda.
        rate: of Adam, in units of states.

    Reference:
        Mardani, Song, Kautz and Vahdat (2023), "A Variational Perspective on Solving Inverse Problems with
        Diffusion Models", arXiv:2305.04391, Algorithm 1.
    """

    weight: float = 0.25
    rate: float = 0.1
    history: int = 3

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        d = at.denoised
        mu, first, second = history if history else (d, torch.zeros_like(d), torch.zeros_like(d))
        # s (n - e) with n = (x - alpha D) / sigma and e = (x - alpha mu) / sigma
        slope = self.weight * (mu - d) - self._pull(mu)
        first = BETAS[0] * first + (1 - BETAS[0]) * slope
        second = BETAS[1] * second + (1 - BETAS[1]) * slope.square()
        a, b = (1 - beta ** (level + 1) for beta in BETAS)
        mu = mu - self.rate * (first / a) / ((second / b).sqrt() + TINY)
        memory = (mu, first, second)
        if z is None or self.is_last(level):
            return Move(mu, memory=memory)
        return Move(self.alpha[level + 1] * mu + self.sigma[level + 1] * z, memory=memory)

    def _pull(self, mu: State) -> State:
        """The gradient of the log-likelihood."""
        assert self.decode is not None, "moves with a measurement are placed where rows live"
        observed = self.observed
        if observed.is_linear:
            return observed.lift(observed.gap(mu, self.decode)) / observed.std**2
        here = Linearised(observed, mu, self.decode)
        return here.pull(here.gap) / observed.std**2
