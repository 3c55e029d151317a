"""A Langevin move within a level: it keeps the law of the level, and parts what resampling copied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from itscale.process import ComposedEvaluation, Evaluation
from itscale.solvers.base import Look, Move


@dataclass(frozen=True)
class LangevinMove:
    """``x + k S + sqrt(2 k) z`` with ``k = (size sigma)^2``, S the score of a product, or of a model.

    Unadjusted, it leaves a normal part of width sigma too wide by a share of about ``size^2 / 2`` in
    variance; a Metropolis test takes that off where log-densities are known.

    Attributes:
        sigmas: noise levels of the grid.
        size: in units of them, about 0.1 to 0.5.

    Reference:
        Du et al. (2023), "Reduce, Reuse, Recycle: Compositional Generation with Energy-Based Diffusion Models
        and MCMC", arXiv:2302.11552.
    """

    sigmas: Float64[Tensor, " levels"]
    size: float

    @property
    def gaussian(self) -> bool:
        return True

    @property
    def history(self) -> int:
        return 0

    @property
    def takes_levels(self) -> bool:
        return False

    def step(self, level: int) -> float:
        """The size k of a step at a level."""
        return (self.size * float(self.sigmas[level])) ** 2

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int), "rows of one level are moved together"
        k = self.step(level)
        std = math.sqrt(2 * k)
        x = at.x.add(slope(at), alpha=k)
        return Move(x if z is None else x.add_(z, alpha=std), z, std)

    def log_reversal(self, here: Evaluation, there: Evaluation, level: int) -> Float64[Tensor, " rows"]:
        """Log-density of the move back less that of the move there."""
        k = self.step(level)
        apart = (there.x - here.x).double()
        back, ahead = -apart - k * slope(there).double(), apart - k * slope(here).double()
        return (ahead.square() - back.square()).flatten(1).sum(dim=1) / (4 * k)  # over the event

    def is_noisy(self, level: int) -> bool:
        return True

    def extra_looks(self, level: int) -> int:
        return 0


def slope(at: Evaluation) -> Tensor:
    """The gradient of the log-density of the law: a product's without the gauge of its drift."""
    return at.combined if isinstance(at, ComposedEvaluation) else at.score
