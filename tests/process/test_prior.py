"""The heavy-tailed start of PFGM++: its law, its ODE, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

import itscale
from itscale import models
from itscale.errors import ConfigError
from itscale.interpolants import EDM
from itscale.noise import Address, Noise, Purpose
from itscale.process import StudentT
from itscale.process.prior import gamma
from tests.engine.setting import Network, total, wrapped


def addresses(rows: int, move: int = 0) -> Address:
    zero = torch.zeros(rows, dtype=torch.int64)
    return Address(zero, zero + move, torch.arange(rows), zero)


@pytest.mark.parametrize("shape", [0.25, 0.5, 1.0, 3.7, 32.0, 1024.0])
def test_gamma_variates_have_their_law(shape):
    values = gamma(Noise(5), Purpose.PRIOR, addresses(20_000), shape).numpy()
    assert stats.kstest(values, stats.gamma(shape).cdf).pvalue > 1e-4


def test_gamma_variates_belong_to_their_rows():
    together = gamma(Noise(5), Purpose.PRIOR, addresses(50), 2.0)
    assert torch.equal(gamma(Noise(5), Purpose.PRIOR, addresses(50)[20:23], 2.0), together[20:23])
    assert not (gamma(Noise(5), Purpose.PRIOR, addresses(50, move=1), 2.0) == together).any()


@pytest.mark.parametrize("augmented", [1.0, 4.0, 64.0])
def test_noise_is_student_t_in_every_coordinate_and_shares_a_factor(augmented):
    prior, at = StudentT(augmented), addresses(20_000)
    unit = Noise(1).normal(Purpose.INITIAL, at, (3,), torch.float64)
    drawn = prior.spread(unit, Noise(1), at)
    assert stats.kstest(drawn[:, 1].numpy(), stats.t(augmented).cdf).pvalue > 1e-4
    torch.testing.assert_close(drawn / drawn[:, :1], unit / unit[:, :1])
    torch.testing.assert_close(
        prior.perturb(torch.full((20_000, 3), 2.0).double(), 0.5, Noise(1), at), 2 + 0.5 * drawn
    )


# -- six weighted points

DIMENSION = 2
POINTS = torch.tensor(
    [[1.5, 0.2], [-1.0, 1.1], [-0.7, -1.3], [0.5, 1.7], [0.1, -0.4], [1.2, -1.4]], dtype=torch.float64
)
WEIGHTS = torch.tensor([0.3, 0.2, 0.15, 0.15, 0.12, 0.08], dtype=torch.float64)


def exact_model(augmented: float, points: torch.Tensor = POINTS):
    """The posterior mean under ``p(x | x_1) ~ (1 + |x - x_1|^2 / (D kappa^2))^(-(N + D)/2)``."""
    path = EDM(sigma_max=80.0, sigma_min=0.005)
    power = -(points.shape[1] + augmented) / 2

    def denoised(x, t):
        kappa = float(path.sigma(t.flatten()[0]))
        distance = (x[:, None] - points).square().sum(-1)
        return (
            torch.softmax(WEIGHTS.log() + power * torch.log1p(distance / (augmented * kappa**2)), 1) @ points
        )

    return models.wrap(denoised, predicts="denoised", interpolant=path, event_shape=tuple(points.shape[1:]))


def frequencies(augmented: float, prior: StudentT | None, n: int = 4000, points: torch.Tensor = POINTS):
    result = itscale.sample(
        exact_model(augmented, points),
        n=n,
        steps=64,
        solver="heun",
        process=itscale.ODE(prior=prior),
        grid=itscale.grids.Karras(kappa_min=0.005),
        seed=3,
    )
    nearest = torch.cdist(result.samples[0].double(), points).argmin(1)
    return torch.bincount(nearest, minlength=6) / n


@pytest.mark.parametrize("augmented", [1.0, 8.0, 64.0])
def test_points_are_drawn_as_often_as_they_weigh(augmented):
    found = frequencies(augmented, StudentT(augmented))
    error = (WEIGHTS * (1 - WEIGHTS) / 4000).sqrt()
    assert ((found - WEIGHTS).abs() <= 4.89 * error).all()


def test_the_law_on_the_way_needs_the_right_start():
    """At kappa = 1 in 32 dimensions with D = 4, the distance from the points has the tails of the start."""
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.pad(POINTS, (0, 30)) + 0.1 * torch.randn(6, 32, generator=generator).double()
    model, n = exact_model(4.0, points), 2000
    path = model.interpolant
    times = torch.cat([path.t_of_kappa(torch.logspace(math.log10(80), 0, 65).double()), torch.ones(1)])
    from itscale.process import ODE, ContinuousProcess
    from tests.solvers.drive import drive

    process, at, noise = ContinuousProcess.of(model, ODE()), addresses(n), Noise(2)
    unit = noise.normal(Purpose.INITIAL, at, (32,), torch.float64)
    picked = points[torch.multinomial(WEIGHTS, n, replacement=True, generator=generator)]
    exact = StudentT(4.0).perturb(picked, 1.0, Noise(9), at).norm(dim=1)
    right, wrong = (
        drive(process, "heun", times, 80 * start, until=64).norm(dim=1)
        for start in (StudentT(4.0).spread(unit, noise, at), unit)
    )
    assert stats.ks_2samp(right.numpy(), exact.numpy()).pvalue > 1e-4
    assert stats.ks_2samp(wrong.numpy(), exact.numpy()).pvalue < 1e-12


# -- refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "2m-sde"}, "stochastic solver and the process has no noise"),
        ({"solver": "restart"}, "Restart adds noise, and no noising step keeps the marginals"),
        ({"solver": "edm-churn"}, "Churn adds noise"),
        ({"method": "smc", "solver": "heun"}, "noise"),
    ],
    ids=str,
)
def test_nothing_that_adds_noise_runs_on_it(settings, message):
    network = Network()
    process = itscale.ODE(interpolant=EDM(), prior=StudentT(128.0))
    with pytest.raises(ConfigError, match=message):
        itscale.sample(
            wrapped(network),
            reward=total,
            process=process,
            condition=1.0,
            **{"method": "unguided", **settings},
        )
    assert network.rows == 0


@pytest.mark.parametrize("augmented", [0.0, -1.0, math.inf, math.nan])
def test_dimensions_must_be_positive_and_finite(augmented):
    with pytest.raises(ConfigError, match="augmented"):
        StudentT(augmented)
