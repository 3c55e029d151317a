"""GM-SDE: exact draws of the next state where the model knows its posterior as a mixture of Gaussians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.linear_update import Row, exponential_row
from itscale.solvers.mixture_posterior import Posterior, check_mixture
from itscale.solvers.schedule import Schedule
from itscale.types import State, expand_over_event


@dataclass(frozen=True)
class GMSDEKernel:
    """Draw a component, then the state: of two normals the first moves it, the second one picks."""

    process: ContinuousProcess
    rows: tuple[Row, ...]
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return level < len(self.rows)

    def extra_looks(self, level: int) -> int:
        return 0

    def shares(self, level: int) -> tuple[float, ...] | None:
        """A shift goes to the normal that moves the state."""
        return (1.0, 0.0) if self.is_noisy(level) else None

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        if not self.is_noisy(level):
            return Move(at.denoised)
        assert z is not None, "a draw needs noise"
        moving, picking = z.unbind(1)
        uniform = torch.special.ndtr(picking.flatten(1)[:, 0].double())
        mean, variance = Posterior.at(self.process, at.x, at.t).pick(uniform)
        a, (b, *_), c = self.rows[level]
        x = torch.add(at.x * a, mean, alpha=b)
        return Move(x + expand_over_event((c**2 + b**2 * variance).sqrt(), x) * moving)

    def log_density(self, at: Evaluation, level: int, x: State) -> Float[Tensor, " rows"]:
        """Log-density of the transition from an evaluation to states ``x``: a mixture in closed form."""
        posterior = Posterior.at(self.process, at.x, at.t)
        a, (b, *_), c = self.rows[level]
        off = (x - a * at.x).flatten(1)[:, None] - b * posterior.means.flatten(2)
        variance = c**2 + b**2 * posterior.variances
        dim = off.shape[-1]
        log_n = -(off.square().sum(-1) / variance + dim * (2 * math.pi * variance).log()) / 2
        return torch.logsumexp(posterior.log_w + log_n, -1)


@dataclass(frozen=True)
class GMSDE:
    """Exact in any number of steps: draw the data point from ``p(x_1 | x_t)``, then the next state given it.

    One evaluation a step, no memory. Given the data point, a step of the exponential solution keeps the
    path's law for every diffusion coefficient, so the only errors are the model's. The transition is
    a mixture with a closed density (``kernel.log_density``), not a Gaussian. Needs a model with a method
    ``posterior(x, t)``, such as ``GaussianMixture``. The last move is the jump to the mean, as ever.

    Left out, for networks that output the mixture: components per pixel and their correlation by a learned
    spectrum. A network would be called once more for its mixture, since rows keep one tensor per look. No
    published figure was reproduced.

    Reference:
        Chen et al. (2025), "Gaussian Mixture Flow Matching Models", arXiv:2504.05304, GM-SDE solver; there
        for the natural coefficient.
    """

    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def build(self, process: ContinuousProcess, times: Tensor) -> GMSDEKernel:
        check_mixture("GMSDE", process, "2m-sde")
        schedule = Schedule.of(process, times)
        return GMSDEKernel(
            process, tuple(exponential_row(schedule, level) for level in range(schedule.steps - 1))
        )
