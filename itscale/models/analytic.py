"""A Gaussian mixture as a model: the oracle every sampler is measured against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants import Interpolant, get_interpolant
from itscale.interpolants.base import as_time
from itscale.models.algebra import Composable
from itscale.models.base import Given
from itscale.models.guidance import GuidanceLike
from itscale.types import State, Time

Numbers: TypeAlias = Tensor | np.ndarray | Sequence[Any]


@dataclass(frozen=True, eq=False, init=False)
class GaussianMixture(Composable):
    """Data with density ``sum_k w_k N(mu_k, s_k^2 I)``: velocity, score and tilts in closed form.

    Exact and finite at every time from 0 to 1, both ends included; after ``interpolant.t_max`` the velocity
    is the one at ``t_max`` (``sigma'`` is infinite at t = 1 on VP and Cosine). Results have the dtype and
    device of ``x``; factors are found in float64. With one time for all, states may have any leading shape.

    At time t component k has mean ``alpha mu_k`` and variance ``alpha^2 s_k^2 + sigma^2``; the rest is Bayes'
    rule (Bishop (2006), "Pattern Recognition and Machine Learning", section 2.3.3).

    Args:
        weights: ``(k,)``, >= 0; normalised here.
        means: ``(k, d)``.
        stds: ``(k,)``, > 0; per coordinate.
        interpolant: the path that joins the data to the noise.
        dtype: of the samples drawn by :meth:`sample`.

    Example:
        >>> import torch
        >>> mixture = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.5, 0.5])
        >>> mixture.denoised(torch.zeros(1, 1), 0.5)
        tensor([[0.]])
    """

    weights: Float64[Tensor, " k"]
    means: Float64[Tensor, "k d"]
    stds: Float64[Tensor, " k"]
    interpolant: Interpolant
    dtype: torch.dtype

    def __init__(
        self,
        weights: Numbers,
        means: Numbers,
        stds: Numbers,
        *,
        interpolant: Interpolant | str = "linear",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        w, mu, s = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, stds))
        _check(w, mu, s)
        object.__setattr__(self, "weights", w / w.sum())
        object.__setattr__(self, "means", mu)
        object.__setattr__(self, "stds", s)
        object.__setattr__(self, "interpolant", get_interpolant(interpolant))
        object.__setattr__(self, "dtype", dtype)

    @property
    def predicts(self) -> Literal["velocity"]:
        return "velocity"

    @property
    def modality(self) -> str:
        return "vector"

    @property
    def rows_per_look(self) -> int:
        return 1

    @property
    def affine(self) -> tuple[float, float]:
        """Scale and shift of ``decode``."""
        return (1.0, 0.0)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.means.shape[1],)

    def encode(self, conditions: Sequence[Any]) -> None:
        """Accept groups without a condition.

        Raises:
            ConfigError: for any condition.
        """
        for condition in conditions:
            if condition is not None:
                raise ConfigError(f"a GaussianMixture takes no condition, got {condition!r}; pass none")

    def predict(self, x: State, t: Time | float, condition: Tensor | None = None) -> State:
        """Return the exact velocity; there is no condition."""
        return self.velocity(x, t)

    def decode(self, x: State) -> Tensor:
        return x

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        return Given(self, condition, guidance)

    def to(self, device: torch.device | str) -> GaussianMixture:
        """Return the mixture with its parameters on ``device``."""
        weights, means, stds = (v.to(device) for v in (self.weights, self.means, self.stds))
        return replace(self, weights=weights, means=means, stds=stds)

    def velocity(self, x: State, t: Time | float) -> State:
        """``alpha' E[x_1 | x] + sigma' E[x_0 | x]``."""
        t = as_time(t).clamp(max=self.interpolant.t_max)
        d_alpha, d_sigma = self.interpolant.d_alpha(t), self.interpolant.d_sigma(t)
        at = self._marginal(x, t)
        return _cast(d_alpha[..., None], x) * at.data + _cast(d_sigma[..., None], x) * at.noise

    def score(self, x: State, t: Time | float) -> State:
        """``grad log p_t(x)``."""
        at = self._marginal(x, t)
        return _mix(at.share, at.pull)

    def denoised(self, x: State, t: Time | float) -> State:
        """``E[x_1 | x_t = x]``."""
        return self._marginal(x, t).data

    def denoised_jacobian(self, x: State, t: Time | float) -> Float[Tensor, "*rows d d"]:
        """Derivative of :meth:`denoised`, ``alpha / sigma^2 Cov[x_1 | x_t = x]`` where ``sigma > 0``."""
        at = self._marginal(x, t)
        share_change = at.pull - _mix(at.share, at.pull)[..., None, :]  # grad log share
        between = torch.einsum("...k,...ki,...kj->...ij", at.share, at.centres, share_change)
        within = (at.share * at.slope).sum(-1, keepdim=True)
        return between + torch.diag_embed(within.expand(x.shape))

    def posterior(
        self, x: State, t: Time | float
    ) -> tuple[Float[Tensor, "*rows k"], Float[Tensor, "*rows k d"], Float64[Tensor, "*rows k"]]:
        """The law of ``x_1`` given ``x_t = x``: log-weights, means and variances of a mixture."""
        at = self._marginal(x, t)
        return torch.log_softmax(at.log_joint, -1), at.centres, at.squares * at.sigma**2 / at.variance

    def log_prob(self, x: State, t: Time | float | None = None) -> Float[Tensor, "*rows"]:
        """Log-density of the data, or of the marginal at time ``t``.

        Only on a path that ends with noise (VE) do the data and the marginal at t = 1 differ.
        """
        joint = self._marginal(x, t).log_joint
        return torch.logsumexp(joint, dim=-1) - x.shape[-1] / 2 * math.log(2 * math.pi)

    def marginal_log_prob(self, x: State, t: Time | float) -> Float[Tensor, "*rows"]:
        """Log-density of the marginal at time ``t``."""
        return self.log_prob(x, t)

    @property
    def data_moments(self) -> tuple[float, float]:
        """Mean and variance of a coordinate, pooled over coordinates and modes."""
        mean = self.mean()
        variance = self.cov().diagonal().mean() + (mean - mean.mean()).square().mean()
        return float(mean.mean()), float(variance)

    def sample(self, n: int, generator: torch.Generator) -> State:
        """Draw ``n`` data points ``(n, d)`` on the generator's device."""
        device = generator.device
        uniform = torch.rand(n, generator=generator, dtype=torch.float64, device=device)
        edges = torch.cumsum(self.weights, 0).to(device)
        k = torch.searchsorted(edges / edges[-1], uniform, right=True)
        normal = torch.randn(n, *self.event_shape, generator=generator, dtype=torch.float64, device=device)
        return (self.means.to(device)[k] + self.stds.to(device)[k, None] * normal).to(self.dtype)

    def tilted_linear(self, a: Numbers, tilt: float = 1.0) -> tuple[GaussianMixture, float]:
        """The law proportional to ``p(x) exp(tilt a.x)``, and the logarithm of its normaliser."""
        direction, squares = self._vector(a), self.stds**2
        power = direction @ direction
        log_weights = self.weights.log() + tilt * self.means @ direction + (tilt**2 / 2) * squares * power
        return self._reweighted(log_weights, self.means + tilt * squares[:, None] * direction, self.stds)

    def tilted_quadratic(self, center: Numbers, tilt: float = 1.0) -> tuple[GaussianMixture, float]:
        """The law proportional to ``p(x) exp(-tilt |x - center|^2 / 2)``, and the log of its normaliser.

        Raises:
            ConfigError: if a negative tilt leaves no density, ``1 + tilt s_k^2 <= 0``.
        """
        c = self._vector(center)
        growth = 1 + tilt * self.stds**2
        if not bool((growth > 0).all()):
            raise ConfigError(
                f"tilt {tilt} leaves no density: it must exceed {-1 / float(self.stds.max()) ** 2:.6g}, "
                "minus the smallest precision of a component"
            )
        distance = ((self.means - c) ** 2).sum(-1)
        log_weights = self.weights.log() - (len(c) * growth.log() + tilt * distance / growth) / 2
        means = (self.means + tilt * self.stds[:, None] ** 2 * c) / growth[:, None]
        return self._reweighted(log_weights, means, self.stds / growth.sqrt())

    def mean(self) -> Float64[Tensor, " d"]:
        """Mean of the data."""
        return self.weights @ self.means

    def cov(self) -> Float64[Tensor, "d d"]:
        """Covariance of the data."""
        centred = self.means - self.mean()
        within = (self.weights @ self.stds**2).expand(self.event_shape).diag()
        return within + centred.T @ (self.weights[:, None] * centred)

    def expect_linear(self, a: Numbers) -> float:
        """``E[a.x]`` over the data."""
        return float(self._vector(a) @ self.mean())

    def mode_of(self, x: State) -> Int64[Tensor, "*rows"]:
        """The component most likely to have made each data point."""
        return self._marginal(x, None).log_joint.argmax(-1)

    def _marginal(self, x: State, t: Time | float | None) -> _Marginal:
        """The mixture at time ``t`` as seen from ``x``; ``None``: the data."""
        if t is None:
            alpha, sigma = as_time(1.0), as_time(0.0)
        else:
            alpha, sigma = self.interpolant.alpha(t), self.interpolant.sigma(t)
        alpha, sigma = alpha[..., None].to(x.device), sigma[..., None].to(x.device)
        means, squares = self.means.to(x.device), (self.stds**2).to(x.device)
        variance = alpha**2 * squares + sigma**2
        offset = x[..., None, :] - _cast(alpha[..., None] * means, x)
        constant = self.weights.log().to(x.device) - x.shape[-1] / 2 * variance.log()
        log_joint = _cast(constant, x) - (offset**2).sum(-1) / _cast(2 * variance, x)
        return _Marginal(log_joint, offset, alpha, sigma, variance, means, squares)

    def _vector(self, a: Numbers) -> Tensor:
        vector = torch.as_tensor(a, dtype=torch.float64, device=self.means.device)
        if vector.shape != self.event_shape:
            raise ConfigError(
                f"a direction or centre has shape {self.event_shape}, got {tuple(vector.shape)}"
            )
        return vector

    def _reweighted(self, log_weights: Tensor, means: Tensor, stds: Tensor) -> tuple[GaussianMixture, float]:
        log_z = torch.logsumexp(log_weights, 0)
        return replace(self, weights=(log_weights - log_z).exp(), means=means, stds=stds), float(log_z)


@dataclass(frozen=True)
class _Marginal:
    """The components at one time as seen from states ``(..., d)``.

    ``log_joint (..., k)`` is ``log w_k N_k(x)`` without the factor of 2 pi and ``offset (..., k, d)`` is
    ``x - alpha mu_k``, both in the dtype of the states; the rest is float64: ``alpha`` and ``sigma``
    ``(..., 1)``, ``variance (..., k)``, ``means (k, d)`` and ``squares (k,)`` of the data.
    """

    log_joint: Tensor
    offset: Tensor
    alpha: Tensor
    sigma: Tensor
    variance: Tensor
    means: Tensor
    squares: Tensor

    @cached_property
    def share(self) -> Tensor:
        """Responsibilities ``(..., k)``."""
        return torch.softmax(self.log_joint, -1)

    @cached_property
    def pull(self) -> Tensor:
        """Score of each component ``(..., k, d)``."""
        return -self.offset / _cast(self.variance, self.offset)[..., None]

    @cached_property
    def slope(self) -> Tensor:
        """Derivative of each component's denoised sample, a multiple of the identity ``(..., k)``."""
        return _cast(self.alpha * self.squares / self.variance, self.offset)

    @cached_property
    def centres(self) -> Tensor:
        """Denoised sample of each component ``(..., k, d)``."""
        return _cast(self.means, self.offset) + self.slope[..., None] * self.offset

    @property
    def data(self) -> Tensor:
        """``E[x_1 | x]``."""
        return _mix(self.share, self.centres)

    @property
    def noise(self) -> Tensor:
        """``E[x_0 | x]``, minus sigma times the score."""
        return -_cast(self.sigma, self.offset) * _mix(self.share, self.pull)


def _check(weights: Tensor, means: Tensor, stds: Tensor) -> None:
    if weights.ndim != 1 or stds.shape != weights.shape or means.ndim != 2 or len(means) != len(weights):
        raise ConfigError(
            "a mixture of k components in d dimensions needs weights (k,), means (k, d), stds (k,), got "
            f"{tuple(weights.shape)}, {tuple(means.shape)}, {tuple(stds.shape)}"
        )
    if not bool((weights >= 0).all() and torch.isfinite(weights).all() and weights.sum() > 0):
        raise ConfigError(f"weights must be finite, >= 0 and not all 0, got {weights.tolist()}")
    if not bool((stds > 0).all() and torch.isfinite(stds).all() and torch.isfinite(means).all()):
        raise ConfigError(f"stds must be finite and > 0 and means finite, got stds {stds.tolist()}")


def _cast(values: Tensor, like: Tensor) -> Tensor:
    return values.to(dtype=like.dtype, device=like.device)


def _mix(share: Tensor, vectors: Tensor) -> Tensor:
    """Sum over components, ``(..., k), (..., k, d) -> (..., d)``."""
    return (share[..., None, :] @ vectors)[..., 0, :]
