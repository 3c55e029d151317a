"""What solvers for models that know ``p(x_1 | x_t)`` as a mixture of Gaussians share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.process import ContinuousProcess
from itscale.types import State, Time, expand_over_event


class MixtureModel(Protocol):
    """A model with a method ``posterior(x, t)``: log-weights (rows, k), means (rows, k, *event), variances.

    Variances are per coordinate, (rows, k). The posterior is taken in closed form from the state: it is not
    charged as an evaluation.
    """

    def posterior(self, x: State, t: Time) -> tuple[Tensor, Tensor, Tensor]: ...


@dataclass(frozen=True)
class Posterior:
    """A mixture ``sum_k w_k N(m_k, v_k I)`` per row.

    Attributes:
        log_w: (rows, k), normalised.
        means: (rows, k, *event).
        variances: (rows, k).
    """

    log_w: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def at(cls, process: ContinuousProcess, x: State, t: Time) -> Posterior:
        """The law of the data given the state, whatever path the model is run on."""
        model: Any = process.model
        if process.is_converted:
            source_t, scale = interpolants.match(model.interpolant, process.interpolant, t)
            x, t = x / expand_over_event(scale, x), source_t
        log_w, means, variances = model.posterior(x, t)
        return cls(log_w, means, variances.to(means).expand_as(log_w))

    def tilted(self, precision: float, pull: Tensor) -> Posterior:
        """The law proportional to this one times ``exp(pull . x_1 - precision |x_1|^2 / 2)``.

        Exact, and without a quotient that is singular where ``precision`` is 0.
        """
        dim = pull[0].numel()
        means, v = self.means.flatten(2), self.variances
        q = pull.flatten(1)[:, None]
        growth = 1 + precision * v
        exponent = (means * q).sum(-1) - precision / 2 * means.square().sum(-1) + v / 2 * q.square().sum(-1)
        log_w = torch.log_softmax(self.log_w + exponent / growth - dim / 2 * growth.log(), -1)
        new = (means + v[..., None] * q) / growth[..., None]
        return Posterior(log_w, new.reshape(self.means.shape), v / growth)

    @property
    def mean(self) -> Tensor:
        """``E[x_1 | x_t]``, (rows, *event)."""
        weights = self.log_w.exp()[:, None]
        return (weights @ self.means.flatten(2))[:, 0].reshape(-1, *self.means.shape[2:])

    def pick(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (rows, *event) and variance (rows,) of the component that a number in [0, 1) falls to."""
        edges = torch.cumsum(self.log_w.exp(), -1)
        edges = edges / edges[:, -1:]
        k = torch.searchsorted(edges, uniform.to(edges)[:, None].contiguous(), right=True)
        k = k[:, 0].clamp(max=edges.shape[1] - 1)
        rows = torch.arange(len(k), device=k.device)
        return self.means[rows, k], self.variances[rows, k]


def check_mixture(solver: str, process: ContinuousProcess, instead: str) -> None:
    """Raise unless the model of a process states its posterior."""
    if not hasattr(process.model, "posterior"):
        raise ConfigError(
            f"{solver} needs a model that states p(data | state) as a mixture of Gaussians (a method "
            f"posterior(x, t), as GaussianMixture has), and {type(process.model).__name__} has none; "
            f"use {instead!r}"
        )
