"""The posterior of a Gaussian mixture under a linear measurement: the oracle of inverse problems."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.analytic import GaussianMixture


@dataclass(frozen=True, eq=False)
class MeasuredMixture:
    """``p(x | y)`` for a mixture ``sum_k w_k N(mu_k, s_k^2 I)`` and ``y = A x + sigma n``, exactly.

    With ``S_k = s_k^2 A A^T + sigma^2 I`` and ``G_k = s_k^2 A^T S_k^-1`` component k has weight
    ``w_k N(y; A mu_k, S_k)``, mean ``mu_k + G_k (y - A mu_k)`` and covariance ``s_k^2 (I - G_k A)``
    (Bishop (2006), "Pattern Recognition and Machine Learning", section 2.3.3).

    Attributes:
        weights: (k,), means: (k, d), covariances: (k, d, d), float64.
        log_evidence: ``log p(y)``.
    """

    weights: Float64[Tensor, " k"]
    means: Float64[Tensor, "k d"]
    covariances: Float64[Tensor, "k d d"]
    log_evidence: float

    @classmethod
    def of(
        cls, mixture: GaussianMixture, matrix: Float[Tensor, "m d"], y: Float[Tensor, " m"], sigma: float
    ) -> MeasuredMixture:
        """Condition a mixture.

        Raises:
            ConfigError: for shapes that do not fit, or no noise.
        """
        a, y = matrix.double(), y.double()
        m, d = a.shape
        if d != mixture.means.shape[1] or tuple(y.shape) != (m,) or not sigma > 0:
            raise ConfigError(
                f"a mixture in {mixture.means.shape[1]} dimensions needs matrix (m, d), y (m,) and "
                f"sigma > 0, "
                f"got {tuple(a.shape)}, {tuple(y.shape)}, {sigma}"
            )
        square = mixture.stds**2
        s = square[:, None, None] * (a @ a.T) + sigma**2 * torch.eye(m, dtype=torch.float64)
        e = y - mixture.means @ a.T
        solved = torch.linalg.solve(s, e[..., None])[..., 0]
        log_weights = mixture.weights.log() - (e * solved).sum(1) / 2 - torch.logdet(s) / 2
        log_weights = log_weights - m / 2 * math.log(2 * math.pi)
        gain = square[:, None, None] * torch.linalg.solve(s, a.expand(len(s), m, d)).mT
        means = mixture.means + (gain @ e[..., None])[..., 0]
        eye = torch.eye(d, dtype=torch.float64)
        log_z = torch.logsumexp(log_weights, 0)
        covariances = square[:, None, None] * (eye - gain @ a)
        return cls((log_weights - log_z).exp(), means, (covariances + covariances.mT) / 2, float(log_z))

    def mean(self) -> Float64[Tensor, " d"]:
        """Posterior mean."""
        return self.weights @ self.means

    def cov(self) -> Float64[Tensor, "d d"]:
        """Posterior covariance."""
        centred = self.means - self.mean()
        within = (self.weights[:, None, None] * self.covariances).sum(0)
        return within + centred.T @ (self.weights[:, None] * centred)

    def sample(self, n: int, generator: torch.Generator) -> Float64[Tensor, "n d"]:
        """Draw ``n`` exact posterior samples."""
        edges = torch.cumsum(self.weights, 0)
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        k = torch.searchsorted(edges / edges[-1], u, right=True).clamp_max(len(edges) - 1)
        values, vectors = torch.linalg.eigh(self.covariances)
        root = vectors * values.clamp_min(0).sqrt()[:, None]
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[k] + (root[k] @ z[..., None])[..., 0]

    def share(self, x: Float[Tensor, "n d"]) -> Float64[Tensor, "n k"]:
        """Responsibilities of the components for samples."""
        factor = torch.linalg.cholesky(self.covariances)
        e = x.double()[:, None] - self.means
        white = torch.linalg.solve_triangular(factor, e.transpose(0, 1).mT, upper=False)  # (k, d, n)
        log_joint = -white.square().sum(1).T / 2 - factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return torch.softmax(log_joint + self.weights.log(), dim=1)
