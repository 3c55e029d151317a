"""A middle at low resolution: its law on Gaussian pyramids in closed form, its cost, and what is refused."""

from __future__ import annotations

import math
import re

import pytest
import torch
import torch.nn.functional as F

import itscale
from itscale import models
from itscale.bottleneck import Bottleneck, ResolutionChange
from itscale.errors import ConfigError
from itscale.interpolants import VP, Linear
from itscale.methods import SMC
from tests.engine.setting import Network, total, wrapped

COARSE, FINE = 0.9, 0.2  # variances of a block's mean, and of a pixel's departure from it
N = 4000


def blocks(x: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(F.avg_pool2d(x, 2), (side, side), mode="nearest")


def unclamped(denoised, path, side):
    return models.wrap(
        denoised,
        predicts="denoised",
        interpolant=path,
        event_shape=(1, side, side),
        decode=lambda x: x,
    )


def high(side: int = 4, path="linear"):
    """Blocks of 2 x 2 pixels: means N(0, COARSE), and departures of variance FINE in three directions."""

    def denoised(x, t):
        kappa2 = path_of(path).kappa(t).reshape(-1, 1, 1, 1) ** 2
        y = x / path_of(path).alpha(t).reshape(-1, 1, 1, 1)
        mean = blocks(y, side)
        return mean * COARSE / (COARSE + kappa2 / 4) + (y - mean) * FINE / (FINE + kappa2)

    return unclamped(denoised, path, side)


def low(side: int = 2, path="linear"):
    """What averaging over blocks makes of them."""

    def denoised(x, t):
        kappa2 = path_of(path).kappa(t).reshape(-1, 1, 1, 1) ** 2
        return x / path_of(path).alpha(t).reshape(-1, 1, 1, 1) * COARSE / (COARSE + kappa2)

    return unclamped(denoised, path, side)


def path_of(name):
    return {"linear": Linear(), "vp": VP()}[name]


def run(factor: float, start: float, end: float, variance: float) -> float:
    """Factor of a direction of this variance after the exact ODE and the denoiser at its end."""
    flow = math.sqrt((variance + end**2) / (variance + start**2))
    return factor * flow * variance / (variance + end**2)


def expected(changes) -> tuple[float, float]:
    """Variances of a block's mean and of a departure, through three stages of exact flows."""
    first, second = (change.kappa for change in changes)
    up = (0.5 * first, 2 * second)  # sides are halved, then doubled
    # a pixel's noise of ratio kappa is one of kappa / 2 in the mean of four
    mean = run(80.0 / 2, 80.0 / 2, first / 2, COARSE) ** 2
    flow = run(1.0, up[0], second, COARSE)
    mean = flow**2 * (mean + up[0] ** 2)
    flow = run(1.0, up[1] / 2, 0.002 / 2, COARSE)
    mean = flow**2 * (mean + (up[1] / 2) ** 2)
    departure = run(up[1], up[1], 0.002, FINE) ** 2  # the enlarged sample has none of its own
    return mean, departure


def test_the_law_is_that_of_exact_flows_with_fresh_noise_between():
    changes = (ResolutionChange(6.0), ResolutionChange(0.7))
    sampler = Bottleneck(changes=changes, steps=(40, 40, 40), solver="heun", resize="nearest", microbatch=N)
    found = sampler((high(), low(), high()), n=N, dtype=torch.float64)
    mean = F.avg_pool2d(found.samples, 2)
    departure = found.samples - blocks(found.samples, 4)
    coarse, fine = expected(changes)
    # 4 means and 12 free departures a sample: relative standard errors sqrt(2 / (4 N)) and sqrt(2 / (12 N));
    # Heun in 40 steps is within 0.3 %
    assert float(mean.square().mean()) == pytest.approx(coarse, rel=0.003 + 4.89 * math.sqrt(2 / (4 * N)))
    assert float(departure.square().sum(dim=(2, 3)).mean()) == pytest.approx(
        12 * fine, rel=0.003 + 4.89 * math.sqrt(2 / (12 * N))
    )
    assert coarse < 0.95 * COARSE  # what a jump to the denoised sample loses is not made up for


def test_other_paths_give_the_same_samples_and_rows_do_not_depend_on_each_other():
    changes = (ResolutionChange(6.0), ResolutionChange(0.7))
    settings = {"changes": changes, "steps": (5, 6, 7)}
    one = Bottleneck(**settings)((high(), low(), high()), n=5, seed=3, dtype=torch.float64)
    few = Bottleneck(**settings, microbatch=2)((high(), low(), high()), n=5, seed=3, dtype=torch.float64)
    other = [m(path="vp") for m in (high, low, high)]
    vp = Bottleneck(**settings)(other, n=3, seed=3, dtype=torch.float64)
    torch.testing.assert_close(few.samples, one.samples, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(vp.samples, one.samples[:3], rtol=1e-8, atol=1e-8)
    assert one.nfe == (5, 6, 7)
    assert Bottleneck(**settings, solver="heun")((high(), low(), high()), n=1).nfe == (9, 11, 13)


def test_levels_shift_by_the_side_or_as_told():
    sampler = Bottleneck(changes=(ResolutionChange(6.0), ResolutionChange(0.7)), steps=(2, 2, 2))
    assert sampler.ranges((high(), low(), high())) == [(80.0, 6.0), (3.0, 0.7), (1.4, 0.002)]
    told = Bottleneck(changes=(ResolutionChange(6.0, log_shift=math.log(1.5)),), steps=(2, 2))
    assert told.ranges((high(), low()))[1][0] == pytest.approx(9.0)


def test_settings_that_cannot_work_are_refused_before_any_call():
    change = ResolutionChange(1.0)
    for settings, message in (
        ({"changes": (), "steps": (2,)}, "one or more"),
        ({"changes": (change,), "steps": (4,)}, "2 stages, and steps has 1"),
        ({"changes": (change,), "steps": (4, 1)}, "steps of a stage"),
        ({"changes": (change,), "steps": (4, 4), "microbatch": 0}, "microbatch must"),
        ({"changes": (change,), "steps": (4, 4), "resize": "area"}, "resize must be"),
        ({"changes": (change,), "steps": (4, 4), "kappa_min": 90.0}, "0 < kappa_min < kappa_max"),
        ({"changes": (change,), "steps": (4, 4), "solver": "2m-sde"}, "needs a solver of the ODE"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            Bottleneck(**settings)
    for settings in ({"kappa": 0.0}, {"kappa": 1.0, "log_shift": math.inf}):
        with pytest.raises(ConfigError, match="finite"):
            ResolutionChange(**settings)
    sampler = Bottleneck(changes=(change,), steps=(4, 4))
    with pytest.raises(ConfigError, match="need as many models, got 1"):
        sampler((high(),), n=1)
    network = Network()
    with pytest.raises(ConfigError, match=r"states must be \(channels"):
        sampler((wrapped(network), wrapped(network)), n=1)
    down = Bottleneck(changes=(change, ResolutionChange(5.0)), steps=(4, 4, 4))
    with pytest.raises(ConfigError, match=r"stage 1 would run from kappa 0\.5 to 5"):
        down((high(), low(), high()), n=1)
    assert network.rows == 0


def test_it_is_no_solver_that_a_weighted_method_could_take():
    network, sampler = Network(), Bottleneck(changes=(ResolutionChange(1.0),), steps=(2, 2))
    with pytest.raises(ConfigError, match="solver must be a name"):
        itscale.sample(
            wrapped(network), reward=total, method=SMC(particles=2), solver=sampler, condition=1.0, steps=4
        )
    assert network.rows == 0
