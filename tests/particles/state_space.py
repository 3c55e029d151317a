"""State-space models with a known evidence, and a particle filter that uses nothing but the core."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from resampling_checks import assert_mean, generator
from torch import Tensor

from itscale.particles import Genealogy, adaptive, get_scheme, log_mean_exp, partial, sanitize


@dataclass(frozen=True)
class Kalman:
    """x_0 ~ N(0, 1), x_k = 0.9 x_{k-1} + N(0, 1), y_k = x_k + N(0, noise)."""

    y: tuple[float, ...]
    noise: float
    log_z: float
    mean: float
    variance: float

    def initial(self, rows: int, n: int, g: torch.Generator) -> Tensor:
        return torch.randn(rows, n, generator=g)

    def move(self, x: Tensor, g: torch.Generator) -> Tensor:
        return 0.9 * x + torch.randn(x.shape, generator=g)

    def log_g(self, x: Tensor, k: int) -> Tensor:
        return -0.5 * (self.y[k] - x).square() / self.noise - 0.5 * math.log(2 * math.pi * self.noise)

    def steps(self) -> int:
        return len(self.y)

    def filter(self) -> tuple[float, float, float]:
        """Return the exact evidence, last filter mean and variance."""
        log_z, mean, variance = 0.0, 0.0, 1.0
        for k, y in enumerate(self.y):
            if k:
                mean, variance = 0.9 * mean, 0.81 * variance + 1.0
            s = variance + self.noise
            log_z -= 0.5 * (y - mean) ** 2 / s + 0.5 * math.log(2 * math.pi * s)
            gain = variance / s
            mean, variance = mean + gain * (y - mean), (1 - gain) * variance
        return log_z, mean, variance


A = Kalman(
    (0.0597, 0.806, 0.3234, 1.9058, -0.0474, -0.0758, -2.5213, -3.7827, -3.7773, -2.3244),
    0.25,
    -16.785904843639,
    -2.495172718151,
    0.205885484845,
)
B = Kalman((-0.0064, 0.8585, 0.5041, 2.3794, -0.6801), 1.0, -8.560957998017, 0.171977440140, 0.597377251993)


class Discrete:
    """Three states, four steps: the evidence and smoothing marginals by enumeration of 81 paths."""

    m0 = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    kernel = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]], dtype=torch.float64)
    potential = torch.tensor([[1, 2, 0.5], [0.3, 1, 2], [2, 0.5, 1], [1, 3, 0.2]], dtype=torch.float64)
    log_z = math.log(1.669167)

    def initial(self, rows: int, n: int, g: torch.Generator) -> Tensor:
        u = torch.rand(rows, n, 1, dtype=torch.float64, generator=g)
        return (u >= self.m0.cumsum(0)[:-1]).sum(-1)

    def move(self, x: Tensor, g: torch.Generator) -> Tensor:
        u = torch.rand((*x.shape, 1), dtype=torch.float64, generator=g)
        return (u >= self.kernel.cumsum(1)[x, :-1]).sum(-1)

    def log_g(self, x: Tensor, k: int) -> Tensor:
        return self.potential[k].log()[x]

    def steps(self) -> int:
        return 4

    def enumerate(self) -> tuple[float, Tensor]:
        """Return the evidence and the smoothing marginals ``(4, 3)``."""
        marginal = torch.zeros(4, 3, dtype=torch.float64)
        for path in itertools.product(range(3), repeat=4):
            p = self.m0[path[0]] * self.potential[0, path[0]]
            for k in range(1, 4):
                p = p * self.kernel[path[k - 1], path[k]] * self.potential[k, path[k]]
            for k in range(4):
                marginal[k, path[k]] += p
        z = marginal[0].sum()
        return float(z), marginal / z


C = Discrete()


@dataclass(frozen=True)
class Run:
    """What a run leaves behind: last states, weights, evidence, and the way there."""

    x: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    genealogy: Genealogy
    states: list[Tensor]
    increments: list[Tensor]
    n_resamplings: Tensor


def filter_particles(
    model,
    rows: int,
    n: int,
    scheme: str,
    rule,
    fraction: float = 1.0,
    seed: int = 0,
    step: Callable = adaptive,
) -> Run:
    """Run ``rows`` independent particle filters of ``n`` particles at once."""
    g = generator(seed, rows, n)
    x = model.initial(rows, n, g)
    lw = torch.zeros(rows, n, dtype=torch.float64)
    evidence = torch.zeros(rows, dtype=torch.float64)
    count = torch.zeros(rows, dtype=torch.int64)
    line, states, increments = Genealogy(rows, n), [x], []
    for k in range(model.steps()):
        log_g = sanitize(model.log_g(x, k)).log_g
        increments.append(log_g)
        lw = lw + log_g
        if k == model.steps() - 1:
            break
        mask = rule(lw, k)
        u = torch.rand(rows, get_scheme(scheme).uniforms(n, n), dtype=torch.float64, generator=g)
        aux = None if fraction == 1.0 else partial(lw, fraction)
        index, lw, increment = step(mask, lw, u, scheme, aux)
        evidence = evidence + increment
        count = count + mask
        line = line.record(index)
        x = model.move(x.gather(-1, index), g)
        states.append(x)
    return Run(x, lw, evidence, line, states, increments, count)


def log_evidence_estimate(run: Run) -> Tensor:
    return run.log_evidence + log_mean_exp(run.log_weights)


def check_unbiased(model, run: Run, what: str, estimate: Callable = log_evidence_estimate) -> None:
    """``E[Z_hat] = Z``, and on Kalman models ``E[Z_hat * (filter mean - exact mean)] = 0``."""
    z = torch.exp(estimate(run) - model.log_z)
    assert_mean(z, 1.0, f"{what}: relative evidence")
    if isinstance(model, Kalman):
        mean = (torch.softmax(run.log_weights, -1) * run.x).sum(-1)
        assert_mean(z * (mean - model.mean), 0.0, f"{what}: unnormalised filter mean")


def check_evidence_variance(estimator: Callable, model, run: Run, what: str) -> None:
    """``E[Z_hat^2 V_Z] = Var(Z_hat)``; the mean of ``Z_hat`` is known, so no bootstrap is needed."""
    z = torch.exp(log_evidence_estimate(run) - model.log_z)
    v = estimator(run.log_weights, run.genealogy.eves(), run.n_resamplings, "multinomial")
    assert_mean(z.square() * v - (z - 1).square(), 0.0, f"{what}: estimated less actual variance")
