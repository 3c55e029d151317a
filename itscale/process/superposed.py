"""A superposition of experts set in motion: one expert or another, or equally likely under all.

With scores ``s_i`` and the path's ``A`` and ``G``, particles follow ``A x + (G + g^2/2) sum kappa_i s_i``.
A mixture has ``kappa = softmax(T log q_i + log w_i)``. For equal densities, kappa depends on the noise of the
step: whatever move a solver makes along the mean score is completed by ::

    x' + sum_j lambda_j (s_j - s_0),    slope sum_j lambda_j <s_i - s_0, s_j - s_0> = b_i' - (L_i - L_0)

which leaves the estimates at the wanted differences ``b'``. ``L_i`` are the estimates after the solver's own
move, which are affine in where it ends (``process.density``). Since everything stays in the span of the
scores, this is the drift with ``kappa_j = 1/M + lambda_j / gain``, solved for with the noise that was drawn.

Reference:
    Skreta et al. (2025), "The Superposition of Diffusion Models Using the Ito Density Estimator",
    arXiv:2412.17762, propositions on OR and AND.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.models.superposition import EqualDensity, Mixture, Superposition
from itscale.process.experts import ExpertsEvaluation, ExpertsProcess
from itscale.types import State, Time

FLOOR = 1e-12  # on the Gram matrix of the scores' differences, which vanish at the noise end


@dataclass(frozen=True)
class SuperposedEvaluation(ExpertsEvaluation):
    """Evaluations of all experts, combined by shares that sum to one."""

    @cached_property
    def shares(self) -> Float64[Tensor, "rows experts"]:
        """Kappa, but for what the noise of a step adds."""
        law = self.process.model
        if isinstance(law, Mixture):
            lean = torch.tensor(law.lean, dtype=torch.float64, device=self.x.device)
            return torch.softmax(law.temperature * self.log_densities + lean, dim=1)
        return torch.full((len(self.x), len(self.parts)), 1 / len(self.parts)).to(self.x.device).double()

    @cached_property
    def score(self) -> Tensor:
        return self.weighted([part.score for part in self.parts], self.shares.unbind(1))

    @cached_property
    def denoised(self) -> Tensor:
        return self.weighted([part.denoised for part in self.parts], self.shares.unbind(1))

    @cached_property
    def noise(self) -> Tensor:
        return self.weighted([part.noise for part in self.parts], self.shares.unbind(1))

    @cached_property
    def velocity(self) -> Tensor:
        return self.weighted([part.velocity for part in self.parts], self.shares.unbind(1))


@dataclass(frozen=True)
class SuperposedProcess(ExpertsProcess):
    """The process of a ``Mixture`` or of an ``EqualDensity``."""

    @property
    def law(self) -> Superposition:
        assert isinstance(self.model, Superposition)
        return self.model

    @property
    def is_law(self) -> bool:
        return self.law.is_law

    @property
    def is_adjusted(self) -> bool:
        return isinstance(self.model, EqualDensity)

    def evaluation(self, x: State, t: Time, raw: Tensor, memo: Tensor | None = None) -> SuperposedEvaluation:
        return SuperposedEvaluation(
            x, t, "noise", raw, self.interpolant, self.parts(x, t, raw), process=self, memo=memo
        )

    def settle(self, here: ExpertsEvaluation, x: State, t: float) -> tuple[State, Tensor]:
        if not isinstance(self.model, EqualDensity):
            return super().settle(here, x, t)
        assert here.memo is not None
        start, experts = float(here.t), len(self.subs)
        apart = self._scores_apart(here)
        slope = self.estimate.slope(start, t)
        gram = slope * apart @ apart.transpose(1, 2) + FLOOR * torch.eye(experts - 1).to(apart)
        pull = torch.linalg.solve(gram, self._missing(here, x, t)[..., None])[..., 0]
        kappa = pull / self.estimate.gain(start, t)
        kappa = torch.cat([-kappa.sum(dim=1, keepdim=True), kappa], dim=1)  # beside 1/M each
        if self.model.clamp is not None:
            shrink = (self.model.clamp / kappa.abs().amax(dim=1)).clamp(max=1.0)
            pull, kappa = pull * shrink[:, None], kappa * shrink[:, None]
        moved = x + (pull[:, None] @ apart).reshape(x.shape).to(x.dtype)
        largest = torch.maximum(here.memo[:, experts], (kappa + 1 / experts).abs().amax(dim=1))
        found = here.log_densities + self.estimate.changes(here, moved, t)
        return moved, self._memo(found, largest)

    def _scores_apart(self, here: ExpertsEvaluation) -> Float64[Tensor, "rows experts-1 d"]:
        first, *others = (part.score.flatten(1).double() for part in here.parts)
        return torch.stack([other - first for other in others], dim=1)

    def _missing(self, here: ExpertsEvaluation, x: State, t: float) -> Float64[Tensor, "rows experts-1"]:
        """What the differences of the log-densities lack where the solver's move ends."""
        there = here.log_densities + self.estimate.changes(here, x, t)
        progress = (t - self.t_start) / (1 - self.t_start)
        lean = torch.tensor(self.law.lean, dtype=torch.float64, device=x.device)
        return progress * lean - (there[:, 1:] - there[:, :1])
