"""The Jacobian of a measurement at given states: products with it, solves, its largest gain."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from itscale.operators.base import conjugate_gradients
from itscale.operators.observed import Decode, Observed

SOLVE_STEPS = 10
POWER_STEPS = 5
STEP = 0.01
"""Of a central difference, relative to the norm of a state."""


class Linearised:
    """``A(x + v) ~ A(x) + J v`` row by row, through operator and decoder.

    Products cost passes through both, never through the network. Behind a decoder that is no affine map,
    which may have no second derivative or be checkpointed, ``J v`` is a central difference.

    Args:
        observed: the measurement.
        x: states (rows, *event).
        decode: states to samples.
    """

    def __init__(self, observed: Observed, x: Tensor, decode: Decode) -> None:
        self._observed, self._decode = observed, decode
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            self._gap = observed.gap(self._x, decode)

    @property
    def gap(self) -> Tensor:
        """``y - A(x)``, (rows, *measurement_shape)."""
        return self._gap.detach()

    def push(self, v: Tensor) -> Tensor:
        """``J v``."""
        if self._observed.affine is None:
            x = self._x.detach()
            step = STEP * _norm(x).clamp_min(1e-3) / _norm(v).clamp_min(1e-30)
            below, above = (self._observed.gap(x + sign * step * v, self._decode) for sign in (-1, 1))
            return (below - above) / (2 * step.reshape(-1, *(1,) * (below.ndim - 1)))
        dual, pulled = self._transposed
        return torch.autograd.grad(pulled, dual, v, retain_graph=True)[0]

    def pull(self, u: Tensor) -> Tensor:
        """``J^T u``."""
        return torch.autograd.grad(self._gap, self._x, -u, retain_graph=True)[0]

    def solve(self, e: Tensor, noise: float, prior: float) -> Tensor:
        """``(noise I + prior J J^T)^-1 e`` by a few conjugate gradients."""
        return conjugate_gradients(lambda u: noise * u + prior * self.push(self.pull(u)), e, SOLVE_STEPS)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor]:
        """``J^T u`` as a function of u, whose own transposed Jacobian is J."""
        with torch.enable_grad():
            dual = torch.zeros_like(self._gap).requires_grad_()
            return dual, torch.autograd.grad(self._gap, self._x, -dual, create_graph=True)[0]

    @cached_property
    def square(self) -> Tensor:
        """The largest eigenvalue of ``J^T J``, (rows,), by power iterations from a fixed start."""
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(self._x.shape[1:], generator=generator, dtype=torch.float64).to(self._x)
        v = v.expand_as(self._x)
        found = torch.zeros(len(v), dtype=v.dtype, device=v.device)
        for _ in range(POWER_STEPS):
            v = v / _norm(v).clamp_min(1e-30)
            v = self.pull(self.push(v))
            found = _norm(v).flatten()
        return found


def _norm(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1).reshape(-1, *(1,) * (v.ndim - 1))
