"""Every diffusion coefficient has the marginals of the ODE; a wrong drift has not."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from itscale import grids
from itscale.interpolants import get_interpolant
from itscale.noise import Address, Noise, Purpose
from itscale.process import ODE, SDE, Coefficient, ContinuousProcess, get_diffusion
from itscale.solvers import EulerMaruyama, Heun, SDEHeun
from tests.oracles import mixture_2d, sliced_wasserstein_2
from tests.solvers.drive import drive

COEFFICIENTS = {
    "0": None,
    "0.5 tau": Coefficient("linear", 0.5),
    "tau": Coefficient("linear"),
    "3 tau": Coefficient("linear", 3.0),
    "3 tau^2": Coefficient("t-squared", 3.0),
    "sin(pi tau / 2)": Coefficient("sine"),
    "1": 1.0,
    "natural": "natural",
}
STEPS = 100


class HalfScore(ContinuousProcess):
    """Noise is added, and only half of the score that compensates it."""

    def drift(self, at):
        g = self.g(float(at.t))
        return at.velocity if g == 0 else at.velocity + g**2 / 4 * at.score


def ends(process: ContinuousProcess, solver, samples: int, seed: int = 0) -> torch.Tensor:
    """Final states in float32, started from unit noise and driven by addressed noise."""
    zero = torch.zeros(samples, dtype=torch.int64)
    times = grids.uniform(process.interpolant, STEPS, process.t_start)
    noise = Noise(seed)

    def at(move: int) -> Address:
        return Address(zero, zero + move, torch.arange(samples), zero)

    x = noise.normal(Purpose.INITIAL, at(0), (2,), torch.float32) * float(process.interpolant.sigma(times[0]))
    return drive(process, solver, times, x, lambda k: noise.normal(Purpose.MOVE, at(k), (2,), torch.float32))


@cache
def exact(samples: int, seed: int) -> torch.Tensor:
    return mixture_2d().sample(samples, torch.Generator().manual_seed(seed)).float()


@cache
def floor(samples: int) -> tuple[float, float]:
    """Mean and standard deviation of the distance between two exact samples of that size."""
    distances = torch.tensor(
        [sliced_wasserstein_2(exact(samples, 2 * i), exact(samples, 2 * i + 1)) for i in range(10, 18)]
    )
    return float(distances.mean()), float(distances.std())


def distance(diffusion, path: str, samples: int) -> float:
    view = ODE(interpolant=path) if diffusion is None else SDE(interpolant=path, diffusion=diffusion)
    process = ContinuousProcess.of(mixture_2d(), view)
    solver = Heun() if diffusion is None else EulerMaruyama()
    return sliced_wasserstein_2(ends(process, solver, samples), exact(samples, 1))


@pytest.mark.parametrize("path", ["linear", "vp"])
@pytest.mark.parametrize("name", ["0", "3 tau^2", "1", "natural"])
def test_marginals_do_not_depend_on_the_diffusion_coefficient(name, path):
    # Four standard deviations above the distance of two exact samples, and 0.02 for 100 Euler steps
    # (0.005 to 0.015 by 160,000 samples). Half of the score moves the law by 0.3 and more.
    mean, deviation = floor(10_000)
    assert distance(COEFFICIENTS[name], path, 10_000) <= mean + 4 * deviation + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("path", ["linear", "vp"])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_marginals_hold_to_a_hundredth_of_the_spread_for_every_coefficient(name, path):
    # the spread of the mixture is 1.9 a coordinate; two exact samples of this size are 0.012 apart
    assert distance(COEFFICIENTS[name], path, 160_000) <= 0.06


@pytest.mark.parametrize("path", ["linear", "vp"])
def test_the_check_refuses_a_drift_with_half_of_the_score(path):
    process = HalfScore(mixture_2d(), get_interpolant(path), get_diffusion(1.0))
    mean, deviation = floor(10_000)
    found = sliced_wasserstein_2(ends(process, SDEHeun(), 10_000), exact(10_000, 1))
    assert found > mean + 4 * deviation + 0.02
