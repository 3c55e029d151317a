"""The Jacobian of a measurement at given states: products with it, solves, its largest gain."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from itscale.operators.base import conjugate_gradients
from itscale.operators.observed import Decode, Observed

SOLVE_STEPS = 10
POWER_STEPS = 5


class Linearised:
    """``A(x + v) ~ A(x) + J v`` row by row, through operator and decoder.

    Each product costs one or two backward passes through both, never through the network.

    Args:
        observed: the measurement.
        x: states (rows, *event).
        decode: states to samples.
    """

    def __init__(self, observed: Observed, x: Tensor, decode: Decode) -> None:
        # attention has no second derivative but in its plain form
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            self._x = x.detach().requires_grad_()
            self._gap = observed.gap(self._x, decode)
            self._dual = torch.zeros_like(self._gap).requires_grad_()
            self._pulled = torch.autograd.grad(self._gap, self._x, -self._dual, create_graph=True)[0]

    @property
    def gap(self) -> Tensor:
        """``y - A(x)``, (rows, *measurement_shape)."""
        return self._gap.detach()

    def push(self, v: Tensor) -> Tensor:
        """``J v``."""
        if not self._pulled.requires_grad:  # the measurement does not depend on the states
            return torch.zeros_like(self._gap)
        return torch.autograd.grad(self._pulled, self._dual, v, retain_graph=True)[0]

    def pull(self, u: Tensor) -> Tensor:
        """``J^T u``."""
        return torch.autograd.grad(self._gap, self._x, -u, retain_graph=True)[0]

    def solve(self, e: Tensor, noise: float, prior: float) -> Tensor:
        """``(noise I + prior J J^T)^-1 e`` by a few conjugate gradients."""
        return conjugate_gradients(lambda u: noise * u + prior * self.push(self.pull(u)), e, SOLVE_STEPS)

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
