"""Inverse problems with exact posteriors, and distances of samples to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import itscale
from itscale.models import GaussianMixture
from itscale.models.measured_mixture import MeasuredMixture
from itscale.operators import Dense, GaussianLikelihood, Mask
from itscale.result import Result


@dataclass(frozen=True)
class Problem:
    """A mixture, a measurement of one draw, and the exact posterior; ``grid`` reaches from s = high to
    low."""

    prior: GaussianMixture
    likelihood: GaussianLikelihood
    truth: MeasuredMixture
    high: float
    low: float


@dataclass(frozen=True)
class LogUniformKappa:
    """Levels of the noise-to-signal ratio as in Karras et al. (2022), rho 7, from high to low, then 0."""

    high: float
    low: float
    rho: float = 7.0

    def __call__(self, path: Any, steps: int, t_start: float) -> Tensor:
        share = torch.arange(steps, dtype=torch.float64) / (steps - 1)
        root = self.high ** (1 / self.rho), self.low ** (1 / self.rho)
        kappa = (root[0] + share * (root[1] - root[0])) ** self.rho
        return torch.cat([path.t_of_kappa(kappa).double(), torch.ones(1, dtype=torch.float64)])


def problem(
    prior: GaussianMixture, matrix: Tensor, sigma: float, seed: int, high: float, low: float
) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    x = prior.sample(1, generator).double()[0]
    y = matrix.double() @ x + sigma * torch.randn(len(matrix), generator=generator, dtype=torch.float64)
    operator = Dense(matrix, (matrix.shape[1],))
    return Problem(
        prior, GaussianLikelihood(operator, y, sigma), MeasuredMixture.of(prior, matrix, y, sigma), high, low
    )


def gmm_b(d: int = 8, m: int = 2, seed: int = 0) -> Problem:
    """Six components of width .5, means ``1.5 sqrt(8 / d) N(0, I)``: moderately multimodal posteriors."""
    g = torch.Generator().manual_seed(100 + seed)
    means = 1.5 * (8 / d) ** 0.5 * torch.randn(6, d, generator=g, dtype=torch.float64)
    weights = torch.rand(6, generator=g, dtype=torch.float64) + 0.3
    prior = GaussianMixture(weights, means, [0.5] * 6, dtype=torch.float64, interpolant="linear")
    matrix = torch.zeros(m, d, dtype=torch.float64)
    matrix[torch.arange(m), torch.arange(m)] = torch.linspace(1, 0.5, m, dtype=torch.float64)
    return problem(prior, matrix, 1.0, seed, 40.0, 0.02)


def gmm_25(d: int = 8, m: int = 2, seed: int = 0) -> Problem:
    """The 25 components of the MCGdiff experiment, a random matrix and noise level.

    Cardoso et al. (2023), "Monte Carlo Guided Diffusion for Bayesian Linear Inverse Problems",
    arXiv:2308.07983.
    """
    g = torch.Generator().manual_seed(200 + seed)
    places = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    means = torch.tensor([[8.0 * p[k % 2] for k in range(d)] for p in places], dtype=torch.float64)
    weights = torch.randn(25, generator=g, dtype=torch.float64).square()
    prior = GaussianMixture(weights, means, [1.0] * 25, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(torch.randn(m, d, generator=g, dtype=torch.float64), full_matrices=False)
    values = torch.rand(m, generator=g, dtype=torch.float64).sort(descending=True).values
    sigma = float(values[0] * torch.rand(1, generator=g, dtype=torch.float64))
    return problem(prior, u @ values.diag() @ vh, sigma, seed, 160.0, 0.02)


def gauss(c: float, seed: int = 0) -> Problem:
    """N(0, c^2 I) in four dimensions, two of them measured with factors 1 and .5 and noise .3."""
    prior = GaussianMixture([1.0], torch.zeros(1, 4), [c], dtype=torch.float64)
    matrix = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0, 0]], dtype=torch.float64)
    return problem(prior, matrix, 0.3, seed, 40.0 * max(1.0, c), 0.005 * c)


def sample(
    it: Problem, method: Any, steps: int = 100, groups: int = 200, seed: int = 3, **settings: Any
) -> Result:
    """Run a method on a problem by ancestral steps on Karras levels."""
    settings = {"process": itscale.SDE(), "solver": "ancestral", **settings}
    grid = settings.pop("grid", LogUniformKappa(it.high, it.low))
    return itscale.sample(
        it.prior,
        reward=it.likelihood,
        method=method,
        steps=steps,
        grid=grid,
        groups=groups,
        seed=seed,
        **settings,
    )


def draws(result: Result) -> Tensor:
    """One draw of every group by its weights, (groups, d)."""
    return result.resample(1)[:, 0].double()


@dataclass(frozen=True)
class Distance:
    """``sliced``: sliced W1; ``modes``: L1 of mode weights; ``mean``: error of the mean in posterior sds;
    ``variance``: median ratio of variances along the measured coordinates' directions."""

    sliced: float
    modes: float
    mean: float
    variance: float


def distance(it: Problem, x: Tensor, seed: int = 0) -> Distance:
    truth = it.truth
    generator = torch.Generator().manual_seed(seed)
    exact = truth.sample(20_000, generator)
    directions = torch.randn(x.shape[1], 100, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    levels = (torch.arange(len(x), dtype=torch.float64) + 0.5) / len(x)
    mine = (x @ directions).sort(0).values
    theirs = torch.quantile(exact @ directions, levels, dim=0)
    modes = truth.share(x).mean(0)
    sd = truth.cov().diagonal().sqrt()
    return Distance(
        float((mine - theirs).abs().mean()),
        float((modes - truth.weights).abs().sum()),
        float((x.mean(0) - truth.mean()).div(sd).square().mean().sqrt()),
        float((x.var(0) / sd**2).median()),
    )


def inpainting(shape: tuple[int, ...], share: float, seed: int = 0) -> Mask:
    """A random mask."""
    return Mask(torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share)
