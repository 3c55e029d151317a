"""Energy of a Lennard-Jones cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError

from .declare import built_in


@built_in("lennard-jones")
@dataclass(frozen=True)
class LennardJones:
    """``-U/T`` of points: the log-density of the cluster at temperature T, up to a constant.

    ``U = depth sum_(i<j) (r_ij^-12 - 2 r_ij^-6) + trap/2 sum_i |x_i - centre|^2``: pairs are best one apart,
    and the trap keeps the cluster from evaporating. Depth 2 is the convention of boltzmann generators, whose
    sum counts every pair twice. 13 points of depth 1 without a trap have their least energy, -44.3268, as an
    icosahedron around its centre.

    Attributes:
        temperature: T > 0.
        depth: of the well of a pair, > 0.
        trap: strength of the harmonic trap, >= 0.
        core: below this distance a pair's energy goes on as a straight line, so that it is finite where
            points meet. At 0.7 a pair has 55 times the depth of its well: no law of interest goes there.

    Reference:
        Köhler, Klein and Noé (2020), "Equivariant Flows", arXiv:2006.02425, section 7; Wales and Doye (1997),
        J. Phys. Chem. A 101, 5111, for the least energy.
    """

    temperature: float = 1.0
    depth: float = 2.0
    trap: float = 1.0
    core: float = 0.7

    def __post_init__(self) -> None:
        for name, low in (("temperature", 0.0), ("depth", 0.0), ("trap", -1e-300), ("core", 0.0)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and low < value < math.inf):
                least = ">= 0" if name == "trap" else "> 0"
                raise ConfigError(
                    f"reward 'lennard-jones': {name} is {value!r}; give a finite number {least}"
                )

    def __call__(self, samples: Float[Tensor, "m points d"]) -> Float[Tensor, " m"]:
        if samples.ndim != 3 or samples.shape[1] < 2:
            raise ConfigError(
                "reward 'lennard-jones' scores points (m, points, dimensions), two or more of them, got "
                f"{tuple(samples.shape)}"
            )
        return -self.energy(samples) / self.temperature

    def energy(self, x: Float[Tensor, "m points d"]) -> Float[Tensor, " m"]:
        """U, differentiable by autograd."""
        i, j = torch.triu_indices(x.shape[1], x.shape[1], 1, device=x.device)
        square = (x[:, i] - x[:, j]).square().sum(dim=2)
        centred = x - x.mean(dim=1, keepdim=True)
        return self._pair(square)[0].sum(dim=1) + self.trap / 2 * centred.square().sum(dim=(1, 2))

    def energy_and_gradient(
        self, x: Float[Tensor, "m points d"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, "m points d"]]:
        """U and its gradient in closed form: one pass over pairs, for long chains."""
        square = (x[:, :, None] - x[:, None]).square().sum(dim=3)
        energy, pull = self._pair(square)
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        energy, pull = energy.masked_fill(itself, 0.0), pull.masked_fill(itself, 0.0)
        centred = x - x.mean(dim=1, keepdim=True)
        total = energy.sum(dim=(1, 2)) / 2 + self.trap / 2 * centred.square().sum(dim=(1, 2))
        return total, pull.sum(dim=2, keepdim=True) * x - pull @ x + self.trap * centred

    def _pair(self, square: Tensor) -> tuple[Tensor, Tensor]:
        """Energy of pairs by the square of their distance, and its derivative over the distance."""
        outside = square.clamp(min=self.core**2)
        inverse = outside**-3
        energy = self.depth * (inverse * inverse - 2 * inverse)
        slope = 12 * self.depth * (inverse - inverse * inverse)  # times the distance
        inside = square.clamp(min=1e-12).sqrt() - self.core  # 0 and above outside, where it does not count
        at_core = slope / self.core
        is_close = square < self.core**2
        energy = torch.where(is_close, energy + at_core * inside, energy)
        pull = torch.where(is_close, at_core / (inside + self.core), slope / outside)
        return energy, pull
