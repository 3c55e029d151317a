"""The law of the data given a state, as a flow from fresh noise that asks the model itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.interpolants import Interpolant, Linear
from itscale.interpolants.base import as_time
from itscale.process import Coefficient, ContinuousProcess, Evaluation
from itscale.solvers.base import Look
from itscale.solvers.leg import InnerName, Leg
from itscale.types import State


@dataclass(frozen=True)
class PosteriorFlow:
    """Given ``x_t``, carry noise n along ``y_u = u x_1 + (1 - u) n`` from u = 0 to ``end``.

    At u = 1 it is a draw of ``x_1 | x_t``. The two observations of ``x_1``, ``x_t`` and ``y_u``, are worth
    one at the sum of their precisions, ``1 / kappa*^2 = alpha^2 / sigma^2 + u^2 / (1 - u)^2``, so the flow's
    denoised sample is the model's at the state ``alpha* m`` and time ``t*``, with m their precision-weighted
    mean. At u = 0 it is that at ``x_t``, which is known.

    Attributes:
        path: of the process.
        alpha, sigma: of the path at the states.

    Reference:
        Holderrieth et al. (2025), "GLASS Flows", arXiv:2509.25170.
    """

    path: Interpolant
    alpha: float
    sigma: float
    leg: Leg

    @classmethod
    def build(
        cls, process: ContinuousProcess, t: float, steps: int, inner: InnerName, end: float = 1.0
    ) -> PosteriorFlow:
        """Make the flow for states at time ``t``, in equal steps of u."""
        path = process.interpolant
        inside = ContinuousProcess(process.model, Linear(), Coefficient("zero"))
        leg = Leg.build(inside, [end * k / steps for k in range(steps)] + [end], inner)
        return cls(path, float(path.alpha(t)), float(path.sigma(t)), leg)

    @property
    def looks(self) -> int:
        """Evaluations per draw."""
        return self.leg.looks

    def __call__(self, at: Evaluation, n: State, look: Look, rows: Tensor | None = None) -> State:
        """Carry noises; ``rows`` says for each which row of the evaluation it belongs to, None one each."""
        x, known = (at.x, at.denoised) if rows is None else (at.x[rows], at.denoised[rows])

        def ask(y: State, u: float, among: Tensor | None) -> Evaluation:
            state, t = self.meet(x if among is None else x[among], y, u)
            source = rows if among is None else among if rows is None else rows[among]
            return _conditional(y, u, look(state, t, source).denoised)

        return self.leg(_conditional(n, 0.0, known), ask)

    def meet(self, x: State, y: State, u: float) -> tuple[State, float]:
        """Return the state and time at which the model knows as much of the data as x and y together."""
        seen, shown = self.alpha / self.sigma**2, u / (1 - u) ** 2
        precision = self.alpha * seen + u * shown
        kappa = max(precision**-0.5, float(self.path.kappa(self.path.t_max)))
        t = float(self.path.t_of_kappa(kappa))
        scale = float(self.path.alpha(t)) / precision
        return torch.mul(x, scale * seen).add_(y, alpha=scale * shown), t


def _conditional(y: State, u: float, denoised: State) -> Evaluation:
    return Evaluation(y, as_time(u), "denoised", denoised, Linear())
