"""Filtering by a noisy path of the observation: one particle has a known law, many have a known wrong one.

A Gaussian N(0, 1) seen as y with noise tau, on Karras levels from 50 to .02. State and observation take DDIM
steps with eta .85; all laws are Gaussian and follow by recursion.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch

from itscale.methods import FPS
from itscale.models import GaussianMixture
from itscale.operators import GaussianLikelihood, Mask
from tests.inverse.problems import draws, problem, sample

ETA, HIGH, LOW, Y, Z = 0.85, 50.0, 0.02, 1.5, 4.89


@dataclass(frozen=True)
class Step:
    """One move of z and of the observation's noise r: ``z' ~ N(a z, v)``, ``r' ~ N(b r, v)``."""

    a: float
    b: float
    v: float


def levels(steps: int) -> list[float]:
    share = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    roots = HIGH ** (1 / 7), LOW ** (1 / 7)
    return ((roots[0] + share * (roots[1] - roots[0])) ** 7).tolist()


def moves(steps: int) -> list[Step]:
    s = levels(steps)
    kept = (1 - ETA**2) ** 0.5
    found = []
    for here, ahead in itertools.pairwise(s):
        d = 1 / (1 + here**2)  # D = d z
        b = kept * ahead / here
        found.append(Step(d + b * (1 - d), b, (ETA * ahead) ** 2))
    return found


def law(tau: float, steps: int, many: bool) -> tuple[float, float]:
    """Mean and variance of a sample: of one particle, or in the limit of many with weights.

    A particle is ``m + N(0, p)`` given the observations; m is linear in their noise r, so (m, r) is normal.
    With many, p is the variance of the Kalman filter, and the likelihood counts once more at the end.
    """
    p, mean, var, cov, noise = HIGH**2, 0.0, 0.0, 0.0, HIGH**2
    for step in moves(steps):
        mean, var, cov = step.a * mean, step.a**2 * var, step.a * step.b * cov
        noise = step.b**2 * noise + step.v
        if many:
            ahead = step.a**2 * p + step.v
            gain = ahead / (ahead + tau**2)
            p = ahead * (1 - gain)
        else:
            gain = step.v / (step.v + tau**2)
            p = ((1 - gain) * step.a) ** 2 * p + step.v * (1 - gain)
        var = (1 - gain) ** 2 * var + gain**2 * noise + 2 * gain * (1 - gain) * cov
        cov = (1 - gain) * cov + gain * noise
        mean = (1 - gain) * mean + gain * Y
    d = 1 / (1 + LOW**2)
    p, mean, var = d**2 * p, d * mean, d**2 * var
    if many:
        gain = p / (p + tau**2)
        p, mean, var = p * (1 - gain), (1 - gain) * mean + gain * Y, (1 - gain) ** 2 * var
    return mean, p + var


@pytest.mark.parametrize(
    ("tau", "ratios"), [(0.1, (0.19, 0.15)), (0.3, (0.10, 0.063)), (1.0, (0.10, 0.044)), (3.0, (0.27, 0.10))]
)
def test_many_particles_tend_to_a_fraction_of_the_variance_and_to_the_measurement(tau, ratios):
    """The published table, 100 and 1000 steps; the posterior is never reached, and more steps lead away."""
    posterior = tau**2 / (1 + tau**2)
    for steps, ratio in zip((100, 1000), ratios, strict=True):
        mean, variance = law(tau, steps, many=True)
        assert variance / posterior == pytest.approx(ratio, abs=0.006)
        assert Y / (1 + tau**2) < mean < Y
    few, more = law(tau, 100, many=True)[0], law(tau, 1000, many=True)[0]
    assert more > few


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_one_particle_has_the_law_of_its_recursion(tau):
    prior = GaussianMixture([1.0], [[0.0]], [1.0], dtype=torch.float64)
    it = problem(prior, torch.ones(1, 1, dtype=torch.float64), tau, 0, HIGH, LOW)
    operator = Mask(torch.tensor([True]))
    likelihood = GaussianLikelihood(operator, torch.tensor([Y], dtype=torch.float64), tau)
    it = type(it)(prior, likelihood, it.truth, HIGH, LOW)
    count = 4000
    x = draws(sample(it, FPS(particles=1), steps=60, groups=count))[:, 0]
    mean, variance = law(tau, 60, many=False)
    assert abs(float(x.mean()) - mean) < Z * (variance / count) ** 0.5
    assert abs(float(x.var()) / variance - 1) < Z * (2 / count) ** 0.5
    # not the posterior, and not the filter's limit either
    assert variance < 0.75 * tau**2 / (1 + tau**2)
    assert variance > 2 * law(tau, 60, many=True)[1]


def filtered(tau: float, steps: int, particles: int, runs: int) -> torch.Tensor:
    """The published filter in one dimension, resampled at every step; one draw of every run."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def resampled(z: torch.Tensor, log_w: torch.Tensor) -> torch.Tensor:
        return z.gather(1, torch.multinomial(log_w.softmax(1), particles, replacement=True, generator=g))

    z, r = HIGH * normal(runs, particles), HIGH * normal(runs, 1)
    for step in moves(steps):
        r = step.b * r + step.v**0.5 * normal(runs, 1)
        predicted, total = step.a * z, step.v + tau**2
        z = resampled(z, -((Y + r - predicted) ** 2) / (2 * total))
        gain = step.v / total
        z = step.a * z + gain * (Y + r - step.a * z) + (tau**2 * gain) ** 0.5 * normal(runs, particles)
    z = z / (1 + LOW**2)
    return resampled(z, -((Y - z) ** 2) / (2 * tau**2))[:, 0]


def test_a_filter_of_many_particles_comes_to_that_limit():
    x, (mean, variance) = filtered(1.0, 60, 128, 1000), law(1.0, 60, many=True)
    # 128 particles leave a bias of the order of 1/128 posterior sds in each of 60 steps
    assert abs(float(x.mean()) - mean) < 0.03 + Z * (variance / 1000) ** 0.5
    assert abs(float(x.var()) / variance - 1) < 0.05 + Z * (2 / 1000) ** 0.5
