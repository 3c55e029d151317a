"""A linear tilt of a model against the closed form of a mixture, on every path."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import SMC
from itscale.models import LinearTilt
from itscale.process import SDE
from tests.oracles import DIRECTION, mixture_2d, mixture_16d

PATHS = ["linear", "vp", "cosine", "trigonometric", "edm", "ve"]
B2 = torch.tensor(DIRECTION, dtype=torch.float64)


def problem(path):
    """A mixture in 16 dimensions, a tilt, states of the tilted law, and how to noise them."""
    generator = torch.Generator().manual_seed(3)
    mixture = mixture_16d(interpolant=path)
    b = 0.8 * torch.randn(16, dtype=torch.float64, generator=generator)
    tilted, log_z = mixture.tilted_linear(b)
    clean, noise = tilted.sample(64, generator), torch.randn(64, 16, dtype=torch.float64, generator=generator)
    return mixture, b, tilted, log_z, lambda t: path_of(mixture, t, clean, noise)


def path_of(mixture, t, clean, noise):
    return float(mixture.interpolant.alpha(t)) * clean + float(mixture.interpolant.sigma(t)) * noise


def error(path, t, change=lambda b: b):
    mixture, b, tilted, _, at = problem(path)
    model = LinearTilt(mixture, change(b), reach=1e8)
    found = model.predict(at(t), torch.tensor(t, dtype=torch.float64), None)
    return float((found - tilted.denoised(at(t), t)).abs().max())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("t", [0.05, 0.3, 0.6, 0.95])
def test_the_denoised_sample_is_that_of_the_tilted_law(path, t):
    assert error(path, t) <= (1e-10 if t == 0.05 or path in ("edm", "ve") else 1e-11)


@pytest.mark.parametrize("path", ["linear", "vp"])
def test_the_marginal_density_is_the_bases_at_the_shifted_state(path):
    """log p*_t(x) = log p_t(x') + b.x / alpha + sigma^2 |b|^2 / (2 alpha^2) - log Z."""
    mixture, b, tilted, log_z, at = problem(path)
    for t in (0.2, 0.7):
        x, alpha, sigma = at(t), mixture.interpolant.alpha(t), mixture.interpolant.sigma(t)
        moved = x + sigma**2 / alpha * b
        found = mixture.log_prob(moved, t) + x @ b / alpha + sigma**2 * (b @ b) / (2 * alpha**2) - log_z
        torch.testing.assert_close(found, tilted.log_prob(x, t), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "wrong", [lambda b: -b, lambda b: 2 * b, lambda b: torch.zeros_like(b)], ids=["sign", "no square", "none"]
)
def test_another_shift_is_noticed(wrong):
    """At t = 1/2 a shift of sigma / alpha, without the square, is twice as long."""
    assert error("linear", 0.5, wrong) > 1e-4


def test_times_may_differ_by_row():
    mixture, b, _, _, at = problem("linear")
    model, x = LinearTilt(mixture, b), at(0.5)[:3]
    times = torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
    together = model.predict(x, times, None)
    for i in range(3):
        torch.testing.assert_close(model.predict(x[i : i + 1], times[i], None), together[i : i + 1])
    assert together.isfinite().all()


def test_nothing_to_tilt_changes_nothing():
    model = LinearTilt(mixture_2d(), torch.zeros(2, dtype=torch.float64))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (0.0, 0.4):
        torch.testing.assert_close(
            model.predict(x, torch.tensor(t, dtype=torch.float64), None), mixture_2d().denoised(x, t)
        )


def drawn(reach, solver=None, process=None):
    model = LinearTilt(mixture_2d(), B2, reach=reach)
    result = itscale.sample(model, n=20_000, steps=50, solver=solver, process=process, seed=1)
    assert result.spent.nfe == [20_000 * 50]
    return float((result.samples[0] @ B2).mean())


@pytest.mark.parametrize(("solver", "process"), [(None, None), ("2m-sde", SDE())])
def test_solvers_sample_the_tilt_at_the_cost_of_the_base(solver, process):
    """The deviation of the reward is 0.9, so 20 000 samples know its mean to 0.007; 50 steps cost 0.02."""
    assert abs(drawn(1e4, solver, process) - 2.571) <= 5 * 0.007 + 0.02


def test_a_short_reach_costs_a_little_and_a_long_one_nothing():
    far, near = (abs(drawn(reach) - 2.571) for reach in (10.0, 3.0))
    assert far <= 0.05 < near < 0.15


def test_methods_tilt_a_tilted_model_further():
    """Half by the model, half by SMC, whose evidence is then log Z(b) - log Z(b / 2)."""
    mixture = mixture_2d()
    model = LinearTilt(mixture, B2 / 2, reach=1e4)
    result = itscale.sample(
        model, reward=lambda vectors: vectors @ B2, method=SMC(particles=128), tilt=0.5, steps=50, groups=64
    )
    expected = mixture.tilted_linear(DIRECTION)[1] - mixture.tilted_linear(DIRECTION, 0.5)[1]
    ratio = (result.log_evidence - expected).exp()
    # five standard errors, and 0.02 for 50 steps
    assert abs(float(ratio.mean()) - 1) <= 5 * float(ratio.std()) / 8 + 0.02


def test_the_normaliser_is_the_integral_of_the_mean_reward():
    found = itscale.tilt_log_z(mixture_2d(), B2, reach=1e4, n=2000, steps=50)
    assert found.standard_error < 0.02
    assert abs(found.value - mixture_2d().tilted_linear(DIRECTION)[1]) <= 5 * found.standard_error + 0.02


def test_settings_are_checked():
    with pytest.raises(
        ConfigError, match=r"b must be finite and of the event's shape \(2,\), got shape \(3,\)"
    ):
        LinearTilt(mixture_2d(), torch.ones(3))
    with pytest.raises(ConfigError, match="reach must be positive and finite, got 0"):
        LinearTilt(mixture_2d(), B2, reach=0.0)
    with pytest.raises(ConfigError, match="is too large for reach"):
        LinearTilt(mixture_2d("ve"), 1e9 * B2).predict(torch.zeros(1, 2), torch.tensor(0.5), None)
