"""Points without their centre of mass, as a model on the space that they really live in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from itscale.errors import ConfigError, unknown_name
from itscale.interpolants import KINDS, Interpolant, get_interpolant
from itscale.models.wrapped import Wrapped


class WithoutCentre(nn.Module):
    """A network on positions, asked in orthonormal coordinates of the positions whose mean is zero.

    n points have n - 1 rows of such coordinates. Lengths and normal noise are those of the centred positions,
    a rotation turns both alike, and the dimension is the one that divergences and normalisers should count.
    """

    basis: Tensor

    def __init__(self, module: Callable[..., Tensor], points: int) -> None:
        super().__init__()
        self.module = module
        # Helmert's matrix: column k sets point k + 1 against the mean of those before it
        k = torch.arange(1, points, dtype=torch.float64)
        basis = torch.ones(points, points - 1, dtype=torch.float64).triu()
        basis[torch.arange(1, points), torch.arange(points - 1)] = -k
        self.register_buffer("basis", basis / (k * (k + 1)).sqrt(), persistent=False)

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return self.coordinates(self.module(self.positions(x), *rest))

    def positions(self, x: Float[Tensor, "*rows free d"]) -> Float[Tensor, "*rows points d"]:
        """Centred positions of coordinates."""
        return self.basis.to(x) @ x

    def coordinates(self, positions: Float[Tensor, "*rows points d"]) -> Float[Tensor, "*rows free d"]:
        """Coordinates of positions; a common shift of all points is dropped."""
        return self.basis.T.to(positions) @ positions


@dataclass(frozen=True, eq=False, kw_only=True)
class PointCloud(Wrapped):
    """A model of points up to a common shift, made by ``wrap_points``.

    States are (points - 1, dimensions); ``decode`` gives centred positions (points, dimensions).

    Attributes:
        space: the coordinates of states.
        variance: of a coordinate of the data; None where it is not known.
    """

    space: WithoutCentre
    variance: float | None = None

    @property
    def data_moments(self) -> tuple[float, float] | None:
        """Mean and variance of a coordinate, if they are known."""
        return None if self.variance is None else (0.0, self.variance)

    def states(self, positions: Tensor) -> Tensor:
        """States of positions (..., points, dimensions), wherever their centre is."""
        return self.space.coordinates(positions)


def wrap_points(
    module: Callable[..., Tensor],
    *,
    points: int,
    dimensions: int = 3,
    predicts: Literal["velocity", "noise", "denoised", "v"],
    interpolant: str | Interpolant,
    variance: float | None = None,
) -> PointCloud:
    """Make a model of a network on positions whose law does not depend on where the centre is.

    Diffusion of such positions adds noise of mean zero over the points. The model lives in orthonormal
    coordinates of that space, of ``(points - 1) dimensions`` numbers, so that samplers, divergences,
    weights and densities are right as they stand. Rewards see positions.

    Args:
        module: called as ``module(x, t)`` with centred positions ``(rows, points, dimensions)`` and ``t
            (rows,)``, 0 noise and 1 data; the mean over the points of what it returns is dropped.
        points: how many, at least 2.
        dimensions: of the space.
        predicts, interpolant: as in ``wrap``.
        variance: of a coordinate of the data, if known, for the gauge of compositions.

    Raises:
        ConfigError: naming the argument at fault.

    Example:
        >>> model = wrap_points(lambda x, t: 0 * x, points=13, predicts="denoised", interpolant="ve")
        >>> model.event_shape
        (12, 3)
    """
    for name, count, least in (("points", points, 2), ("dimensions", dimensions, 1)):
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise ConfigError(f"{name} must be a whole number >= {least}, got {count!r}")
    if not callable(module):
        raise ConfigError(f"module must be callable as module(x, t), got {module!r:.60}")
    if predicts not in KINDS:
        raise unknown_name("prediction (predicts)", predicts, KINDS)
    if variance is not None and not 0 < variance < math.inf:
        raise ConfigError(f"variance of the data must be > 0, got {variance!r}")
    free = WithoutCentre(module, points).eval().requires_grad_(False)
    return PointCloud(
        module=free,
        space=free,
        predicts=predicts,
        interpolant=get_interpolant(interpolant),
        event_shape=(points - 1, dimensions),
        conditional=False,
        decoder=free.positions,
        modality="vector",
        null_condition=None,
        variance=variance,
    )
