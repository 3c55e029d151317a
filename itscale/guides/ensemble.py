"""A guide without gradients for measurements: what an ensemble's spread says a residual asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from itscale.guides.base import View, capped
from itscale.guides.population import by_group, padded
from itscale.operators import Observed
from itscale.types import State


@dataclass(frozen=True)
class EnsembleKalman:
    """Move denoised samples by ``C_DA (C_AA + noise)^-1 (y - A(D))``, with covariances over a group.

    The operator may be anything that can be called. With n particles it is done in n dimensions,
    ``X^T (Y Y^T + noise)^-1 Y e`` for deviations X of the samples and Y of what is measured of them, over
    ``sqrt(n - 1)``; moves stay within the span of the ensemble.

    Attributes:
        observed: the measurement.
        strength: factor on the move.
        cap: largest norm of the shift in standard deviations of the move; None leaves it as it is.

    Reference:
        Zheng et al. (2024), "Ensemble Kalman Diffusion Guidance: A Derivative-free Method for Inverse
        Problems", arXiv:2409.20175.
    """

    observed: Observed
    strength: float = 1.0
    cap: float | None = None
    wants_context: ClassVar[bool] = True

    def __call__(self, view: View) -> State:
        context, d = view.context, view.here.denoised
        assert context is not None, "a guide of this kind needs a context"
        e = self.observed.gap(d, view.decode).flatten(1)
        move = torch.empty_like(d.flatten(1))
        for rows, group in by_group(view.group.to(d.device), at_once=False):
            bank = context.denoised[group]
            step = self._gain(bank.reshape(-1, *d.shape[1:]), padded(e[rows], view.pad), view)
            move[rows] = step[: len(e[rows])]
        factor = view.factor(view.bridge.pulled / view.bridge.std.clamp_min(1e-300))
        return capped(self.strength * factor * move.reshape(d.shape), self.cap)

    def _gain(self, bank: State, e: Tensor, view: View) -> Tensor:
        """``C_DA (C_AA + noise)^-1 e`` for residuals (rows, m), flat (rows, d)."""
        seen = -self.observed.gap(bank, view.decode).flatten(1).double()
        x = bank.flatten(1).double()
        scale = (len(bank) - 1) ** -0.5
        x, seen = scale * (x - x.mean(0)), scale * (seen - seen.mean(0))
        gram = seen @ seen.mT
        gram.diagonal().add_(self.observed.std**2)
        coefficients = torch.linalg.solve(gram, seen @ e.double().mT)
        return (coefficients.mT @ x).to(e)
