"""Annealing forty modes to a third of the temperature: the gauge against the published corrector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

import itscale
from itscale.interpolants import VE
from itscale.methods import FKC
from itscale.models import GaussianMixture

POWER, SCALE, GROUPS, PARTICLES, STEPS = 3, 50.0, 8, 5000, 1000


def target() -> GaussianMixture:
    """The published forty modes, in units of 50."""
    generator = torch.Generator().manual_seed(0)
    means = (torch.rand(40, 2, generator=generator) - 0.5) * 80 / SCALE
    std = float(torch.nn.functional.softplus(torch.tensor(2.0))) / SCALE
    return GaussianMixture([1.0] * 40, means, [std] * 40, interpolant=VE(0.01, 10.0))


def exact(q: GaussianMixture, n: int) -> torch.Tensor:
    """Draws of ``q^3`` from many of q, weighted by ``q^2``."""
    generator = torch.Generator().manual_seed(1)
    x = q.sample(200_000, generator)
    weights = torch.softmax(2 * q.log_prob(x.double()), 0)
    return x[torch.multinomial(weights, n, generator=generator)]


def wasserstein(x: torch.Tensor, y: torch.Tensor) -> float:
    """W1 by exact assignment, in units of the data."""
    cost = torch.cdist(x.double(), y.double()).numpy() * SCALE
    return float(cost[linear_sum_assignment(cost)].mean())


@pytest.mark.slow
def test_forty_modes_are_annealed_better_with_the_gauge_than_without():
    q = target()
    truth = exact(q, 1500)
    share = torch.bincount(q.mode_of(exact(q, 20_000).double()), minlength=40) / 20_000
    off = {}
    for gauge in ("gaussian", "none"):
        result = itscale.sample(
            (q**POWER).corrected(gauge=gauge),
            method=FKC(particles=PARTICLES),
            groups=GROUPS,
            steps=STEPS,
            process=itscale.SDE(),
            pool=itscale.pools.Local(microbatch=PARTICLES),
        )
        drawn = result.resample(1500)
        w1, modes, hit = [], [], []
        for samples in drawn:
            found = torch.bincount(q.mode_of(samples.double()), minlength=40) / len(samples)
            w1.append(wasserstein(samples, truth))
            modes.append(float((found - share).abs().sum() / 2))
            hit.append(int((found > 0).sum()))
        off[gauge] = (float(np.mean(w1)), float(np.mean(modes)), min(hit))
    w1, modes, hit = off["gaussian"]
    assert w1 < 5, off
    assert modes < 0.15, off
    assert hit == 40, off
    assert off["none"][0] > w1, off
