"""Twists of a measurement: its likelihood given the state, with normal data around the denoised sample.

In level coordinates ``z = x / alpha``, ``s = sigma / alpha``; ``J = dD/dz = Cov[x_1 | z] / s^2`` is the
derivative of the denoised sample D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.guides.twist import Prospect
from itscale.operators import Linearised, Observed
from itscale.types import State

COVARIANCES = ("none", "isotropic", "moment", "diagonal")
FEW = 16
"""Measurements for which the exact covariance is worth its backward passes."""


@dataclass(frozen=True)
class MeasuredNearby:
    """``psi(z) = N(y; A D(z), noise + R)``, and the push ``s^2 grad_z log psi`` with R held fixed.

    R is what the measurement varies by because the data vary around D: nothing (``"none"``, as in TDS),
    ``r^2 A A^T`` with ``r^2 = s^2 c^2 / (s^2 + c^2)`` for data of standard deviation c (``"isotropic"``,
    PiGDM), ``s^2 A J A^T`` (``"moment"``, exact for Gaussian data) or its row sums (``"diagonal"``). For an
    operator that is not linear A is its Jacobian at D, as in a Gauss-Newton step; behind a decoder that is
    no affine map ``A A^T`` is the mean square of the operator's rows.

    Attributes:
        observed: the measurement.
        covariance: R.
        prior_std: c, in units of states.
        tilt: exponent on the likelihood.

    Reference:
        Song et al. (2023), "Pseudoinverse-Guided Diffusion Models for Inverse Problems"; Boys et al. (2023),
        "Tweedie Moment Projected Diffusions for Inverse Problems", arXiv:2310.06721.
    """

    observed: Observed
    covariance: str = "isotropic"
    prior_std: float = 1.0
    tilt: float = 1.0
    pushes: bool = True

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise ConfigError(f"covariance must be one of {', '.join(COVARIANCES)}, got {self.covariance!r}")

    @property
    def backward(self) -> int:
        if self.covariance == "moment":
            return self.observed.likelihood.operator.size
        return 2 if self.covariance == "diagonal" else int(self.pushes)

    @property
    def calls(self) -> int:
        return 1

    def __call__(self, prospect: Prospect) -> tuple[Float64[Tensor, " rows"], State]:
        x, observed = prospect.here.x, self.observed
        e = observed.gap(prospect.here.denoised, prospect.decode)
        if self.covariance == "moment":
            return self._moment(prospect, e)
        if self.covariance == "diagonal":
            w, value = self._diagonal(prospect, e)
        else:
            w = self._weighed(prospect, e.detach())
            value = -(e.detach() * w).flatten(1).sum(1, dtype=torch.float64) / 2
        if not self.pushes:
            return value, torch.zeros_like(x)
        pull = -(e * w).flatten(1).sum()
        return value, self._push(prospect, torch.autograd.grad(pull, x)[0])

    def _weighed(self, prospect: Prospect, e: Tensor) -> Tensor:
        """``(noise + R)^-1 e``."""
        observed, square = self.observed, spread(prospect, self.prior_std)
        if self.covariance == "none":
            return e / observed.std**2
        if observed.is_linear:
            return observed.solve(e, square)
        if observed.affine is not None:  # through operators alone the Jacobian at D is cheap
            here = Linearised(observed, prospect.here.denoised, prospect.decode)
            return here.solve(e, observed.std**2, square)
        return e / (observed.std**2 + square * observed.gain**2)

    def _diagonal(self, prospect: Prospect, e: Tensor) -> tuple[Tensor, Tensor]:
        """The covariance as a diagonal of its row sums, ``s^2 A J A^T 1``."""
        x, observed = prospect.here.x, self.observed
        ones = torch.ones_like(e)
        back = torch.autograd.grad(-(e * ones).sum(), x, retain_graph=True)[0]
        scale = 0.0 if prospect.alpha == 0 else prospect.sigma**2 / prospect.alpha
        variance = scale * observed.scale * observed.linear(back)
        variance = (observed.std**2 + variance.clamp_min(0.0)).detach()
        w = e.detach() / variance
        value = (e.detach() * w + variance.log()).flatten(1).sum(1, dtype=torch.float64)
        return w, -value / 2

    def _moment(self, prospect: Prospect, e: Tensor) -> tuple[Float64[Tensor, " rows"], State]:
        """The exact covariance: one backward pass per measurement; the push is a combination of them."""
        x, observed = prospect.here.x, self.observed
        flat = e.flatten(1)
        rows = [
            torch.autograd.grad(-flat[:, j].sum(), x, retain_graph=j + 1 < flat.shape[1])[0]
            for j in range(flat.shape[1])
        ]
        scale = 0.0 if prospect.alpha == 0 else prospect.sigma**2 / prospect.alpha  # s^2 alpha: J is dD/dz
        seen = [observed.scale * observed.linear(row).flatten(1) for row in rows]
        r = scale * torch.stack(seen, dim=1).double()
        values, vectors = torch.linalg.eigh((r + r.mT) / 2)
        variance = observed.std**2 + values.clamp_min(0.0)  # a network's J need not be symmetric, or positive
        along = (vectors.mT @ flat.detach().double()[..., None])[..., 0]
        w = (vectors @ (along / variance)[..., None])[..., 0]
        value = -(along.square() / variance + variance.log()).sum(1) / 2
        if not self.pushes:
            return value, torch.zeros_like(x)
        pull = torch.einsum("nj,jn...->n...", w.to(x), torch.stack(rows))
        return value, self._push(prospect, pull)

    def _push(self, prospect: Prospect, gradient: State) -> State:
        """``s^2 grad_z``, that is ``sigma^2 / alpha grad_x``; nothing at pure noise, where D does not
        move."""
        if prospect.alpha == 0:
            return torch.zeros_like(gradient)
        return self.tilt * prospect.sigma**2 / prospect.alpha * gradient


@dataclass(frozen=True)
class MeasuredAround:
    """``psi(z) = mean_j p(y | D(z) + r eps_j)`` for any likelihood; the logarithm is outside the mean.

    Random, and fresh at every look: weights stay right, as the values that were used telescope.

    Attributes:
        samples: n.
        prior_std: c in ``r^2 = s^2 c^2 / (s^2 + c^2)``.

    Reference:
        Song et al. (2023), "Loss-Guided Diffusion Models for Plug-and-Play Controllable Generation".
    """

    observed: Observed
    samples: int = 10
    prior_std: float = 1.0
    tilt: float = 1.0

    @property
    def backward(self) -> int:
        return 1

    @property
    def calls(self) -> int:
        return 1

    def __call__(self, prospect: Prospect) -> tuple[Float64[Tensor, " rows"], State]:
        x, d = prospect.here.x, prospect.here.denoised
        around = d[:, None] + spread(prospect, self.prior_std) ** 0.5 * prospect.normals(self.samples).to(d)
        each = self.observed.log_prob(around.flatten(0, 1), prospect.decode).reshape(len(d), -1)
        value = torch.logsumexp(each, 1) - torch.log(torch.tensor(float(self.samples), dtype=each.dtype))
        gradient = torch.autograd.grad(value.sum(), x)[0]
        factor = 0.0 if prospect.alpha == 0 else self.tilt * prospect.sigma**2 / prospect.alpha
        return value.detach().double(), factor * gradient


def spread(prospect: Prospect, prior_std: float) -> float:
    """``r^2 = s^2 c^2 / (s^2 + c^2)``: the variance of N(0, c^2) data given a state."""
    return (
        prior_std**2
        if prospect.alpha == 0
        else prospect.square * prior_std**2 / (prospect.square + prior_std**2)
    )
