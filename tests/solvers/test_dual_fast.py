"""DualFast: a plain loop, DDIM at c = 0, and who refuses it."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import SMC
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import DDIM, DualFast
from tests.contracts.solvers import EDM_PATH, KAPPA_MAX, KAPPA_MIN
from tests.engine.setting import Network, total, wrapped
from tests.oracles import gm2, mixture_2d
from tests.solvers.drive import drive, kappa_grid


def start(rows: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return KAPPA_MAX * torch.randn(rows, 2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("anchor", ["first", "previous"])
def test_both_anchors_are_plain_loops(anchor):
    model, moves = gm2(EDM_PATH), 8
    times = kappa_grid(ContinuousProcess.of(model, ODE()), moves, KAPPA_MAX, KAPPA_MIN)
    kappa = EDM_PATH.kappa(times)
    # the path's state is alpha y
    y = start() / float(EDM_PATH.alpha(times[0]))
    noises = []
    for i in range(moves):
        x = float(EDM_PATH.alpha(times[i])) * y
        noises.append((y - model.denoised(x, times[i])) / kappa[i])
        c = 0.6 * i / (moves - 1)
        anchored = noises[0] if anchor == "first" else noises[max(i - 1, 0)]
        y = y + (kappa[i + 1] - kappa[i]) * ((1 + c) * noises[-1] - c * anchored)
    mine = drive(
        ContinuousProcess.of(model, ODE()), DualFast(c_max=0.6, anchor=anchor), times, start(), until=moves
    )
    torch.testing.assert_close(mine, float(EDM_PATH.alpha(times[moves])) * y, rtol=1e-9, atol=1e-9)


def test_without_extrapolation_it_is_ddim_bit_for_bit():
    runs = [
        itscale.sample(mixture_2d(), n=4, steps=6, solver=s, seed=3).samples
        for s in (DualFast(c_max=0.0), DDIM())
    ]
    assert torch.equal(*runs)


@pytest.mark.parametrize("anchor", ["first", "previous"])
def test_it_runs_through_sample_from_pure_noise_in_micro_batches(anchor):
    solver = DualFast(anchor=anchor)
    runs = [
        itscale.sample(mixture_2d(), n=5, steps=6, solver=solver, seed=3, pool=itscale.pools.Local(m))
        for m in (2, 64)
    ]
    assert runs[0].spent.nfe == [30]
    torch.testing.assert_close(runs[0].samples, runs[1].samples)


def test_methods_that_weight_and_bad_settings_are_refused_before_any_call():
    network = Network()
    with pytest.raises(ConfigError, match="SMC weights samples"):
        itscale.sample(
            wrapped(network),
            reward=total,
            method=SMC(particles=4),
            solver=DualFast(),
            process=itscale.ODE(),
        )
    assert network.rows == 0
    for c in (-0.1, math.inf, math.nan):
        with pytest.raises(ConfigError, match="c_max must be finite"):
            DualFast(c_max=c)
    with pytest.raises(ConfigError, match="anchor must be"):
        DualFast(anchor="last")
