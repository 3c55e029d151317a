"""Log-densities of experts along a path that another drift has drawn: the Ito density estimator.

For a path ``dx = v dt + g dW`` with any drift v, and an expert of score s on a path with ``A = alpha'/alpha``
and ``G = sigma W/alpha``, Ito's formula says ::

    d log q = <s, dx> - (A d + A <x, s> + G |s|^2) dt + (g^2/2 - G) div s dt

and where ``g^2 = 2 G``, the natural coefficient, no divergence is left. In ``y = x / alpha``, of score
``alpha s``, the terms with A are gone and ``G / alpha^2`` integrates to ``(kappa^2 - kappa'^2) / 2``.

The sum over steps starts at the prior and is random: its error falls with the square root of the step. Most
of it is common to all experts. It is less by the same sum for a normal law, whose log-density is known: what
is summed is the difference of the two.

Reference:
    Skreta et al. (2025), "The Superposition of Diffusion Models Using the Ito Density Estimator",
    arXiv:2412.17762, without the normal law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import Interpolant
from itscale.process.evaluation import Evaluation
from itscale.types import State


@dataclass(frozen=True)
class Ito:
    """Changes of log-densities over steps, by the left end of each.

    Attributes:
        process: of the experts.
        mean, variance: of the data per coordinate, for the normal law; any are right, true ones are best.
        has_divergence: whether evaluations come with the divergences of the scores.
    """

    process: Any
    mean: float
    variance: float
    has_divergence: bool = False

    def changes(self, here: Any, x: State, t: float) -> Float64[Tensor, "rows experts"]:
        """Change of every expert's log-density from an evaluation to x at time t."""
        path, start = self.process.interpolant, float(here.t)
        alpha, ahead = float(path.alpha(start)), float(path.alpha(t))
        gone = (float(path.kappa(start)) ** 2 - float(path.kappa(t)) ** 2) / 2
        origin = here.x.double()
        moved = x.double() / ahead - origin / alpha
        width = self._width(start)
        normal = (alpha * self.mean - origin) / width
        known = self._log_normal(x, t) - self._log_normal(here.x, start)
        known = known - alpha * inner(normal, moved) + gone * alpha**2 * square(normal)
        found = [
            known + alpha * inner(part.score, moved) - gone * alpha**2 * square(part.score)
            for part in here.parts
        ]
        changes = torch.stack(found, dim=1)
        if self.has_divergence:
            excess = (t - start) * (self.process.g(start) ** 2 / 2 - _linear(path, start)[1])
            changes = changes + excess * (here.divergences + x[0].numel() / width)
        return changes

    def slope(self, t0: float, t1: float) -> float:
        """The change of an expert is ``slope <s, x'>``, up to what all share and what the start decides."""
        return float(self.process.interpolant.alpha(t0)) / float(self.process.interpolant.alpha(t1))

    def gain(self, t0: float, t1: float) -> float:
        """How far a unit of score moves a particle in a step."""
        return (t1 - t0) * (_linear(self.process.interpolant, t0)[1] + self.process.g(t0) ** 2 / 2)

    def _width(self, t: float) -> float:
        path = self.process.interpolant
        return float(path.sigma(t)) ** 2 + float(path.alpha(t)) ** 2 * self.variance

    def _log_normal(self, x: State, t: float) -> Float64[Tensor, " rows"]:
        centre, width = float(self.process.interpolant.alpha(t)) * self.mean, self._width(t)
        return -square(x - centre) / (2 * width) - x[0].numel() / 2 * math.log(width)


def is_natural(process: Any) -> bool:
    """Whether ``g^2 = 2 G``, at a few times."""
    path = process.interpolant
    for t in (0.2, 0.5, 0.8):
        G = _linear(path, t)[1]
        if not math.isclose(process.g(t) ** 2 / 2, G, rel_tol=1e-6):
            return False
    return True


def check_noise(process: Any, density: str | None, divergence: str | None) -> None:
    """Raise unless the estimate is right for the noise of the process.

    Raises:
        ConfigError: for another diffusion coefficient than the natural one, without divergences.
    """
    if density in (None, "exact") or divergence is not None or is_natural(process):
        return
    raise ConfigError(
        f"density={density!r} is right for the natural diffusion coefficient alone, and the process has "
        f"{process.diffusion!r}; use SDE(), or density='ito' with divergence='hutchinson' (or 'exact')"
    )


def log_prior(x: State, sigma: float) -> Float64[Tensor, " rows"]:
    """Log-density of ``N(0, sigma^2 I)``."""
    return -square(x) / (2 * sigma**2) - x[0].numel() * math.log(sigma * math.sqrt(2 * math.pi))


def divergences(
    parts: Sequence[Evaluation], x: State, probe: Tensor | None
) -> Float64[Tensor, "rows experts"]:
    """Divergence of every expert's score: exact, a backward pass per coordinate, or along one probe."""
    found = []
    for part in parts:
        if probe is not None:
            (slope,) = torch.autograd.grad(part.score, x, probe, retain_graph=True)
            found.append(inner(slope, probe))
            continue
        flat, total = part.score.flatten(1), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for i in range(flat.shape[1]):  # rows do not interact, so a sum over rows has their gradients
            (slope,) = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)
            total += slope.flatten(1)[:, i].double()
        found.append(total)
    return torch.stack(found, dim=1)


def inner(a: Tensor, b: Tensor) -> Float64[Tensor, " rows"]:
    """``<a, b>`` per row, in float64."""
    return (a.flatten(1).double() * b.flatten(1).double()).sum(dim=1)


def square(s: Tensor) -> Float64[Tensor, " rows"]:
    """``|s|^2`` per row, in float64."""
    return s.flatten(1).double().square().sum(dim=1)


def _linear(path: Interpolant, t: float) -> tuple[float, float]:
    """A and G of a path at a time."""
    c = interpolants.coefficients(path, t)
    return float(c.d_alpha / c.alpha), float(c.sigma * c.wronskian / c.alpha)
