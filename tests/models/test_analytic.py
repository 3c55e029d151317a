"""The exact Gaussian mixture against autograd, quadrature and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import EDM, VE, VP, Cosine, Linear, Table, Trigonometric, coefficients
from itscale.models.analytic import GaussianMixture
from tests.oracles import (
    BASE_EXPECTED_REWARD,
    DIRECTION,
    TILT_1,
    TILT_3,
    gm2,
    mixture_1d,
    mixture_2d,
    mixture_16d,
    quantile_w1,
    sliced_wasserstein_2,
)

PATHS = [Linear(), Trigonometric(), VP(), Cosine(), VE(), EDM(), Table.scaled_linear()]
EVERY_PATH = pytest.mark.parametrize("path", PATHS, ids=repr)


def states(mixture: GaussianMixture, t: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A draw of the marginal at each time."""
    generator = torch.Generator().manual_seed(seed)
    data = mixture.sample(len(t), generator)
    noise = torch.randn(data.shape, generator=generator, dtype=torch.float64)
    return mixture.interpolant.alpha(t)[:, None] * data + mixture.interpolant.sigma(t)[:, None] * noise


def times(n: int = 24, first: float = 0.02, last: float = 0.98) -> torch.Tensor:
    return torch.linspace(first, last, n, dtype=torch.float64) + 1e-4  # not on a knot of a table


# --- the marginals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 0.4, 0.97, 1.0])
@EVERY_PATH
def test_density_is_that_of_scipy(path, t):
    mixture = mixture_1d(path)
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    scale = (alpha**2 * mixture.stds.numpy() ** 2 + sigma**2) ** 0.5
    x = np.linspace(-3, 3, 11)[:, None] * scale.max()
    expected = np.log(norm.pdf(x, alpha * mixture.means[:, 0].numpy(), scale) @ mixture.weights.numpy())
    got = mixture.log_prob(torch.from_numpy(x), t)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_density_of_the_data_needs_no_time():
    x = mixture_1d().sample(20, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixture_1d().log_prob(x), mixture_1d().log_prob(x, 1.0))
    # a path that ends with noise: its last marginal is wider than the data
    torch.testing.assert_close(mixture_1d(VE(0.5, 9.0)).log_prob(x), mixture_1d().log_prob(x))
    assert not torch.allclose(mixture_1d(VE(0.5, 9.0)).log_prob(x, 1.0), mixture_1d().log_prob(x))


@EVERY_PATH
def test_score_is_the_gradient_of_the_log_density(path):
    for mixture in (mixture_2d(path), mixture_16d(interpolant=path)):
        t = times()
        x = states(mixture, t).requires_grad_()
        (expected,) = torch.autograd.grad(mixture.log_prob(x, t).sum(), x)
        # rounding of |x - alpha mu|^2 / v, up to 60, times d
        torch.testing.assert_close(mixture.score(x, t), expected, rtol=1e-11, atol=1e-11)


@EVERY_PATH
def test_velocity_transports_the_density(path):
    # d log p / dt + u . grad log p + div u = 0
    mixture, t = mixture_2d(path), times()
    x = states(mixture, t)
    t = t.requires_grad_()
    (change,) = torch.autograd.grad(mixture.log_prob(x, t).sum(), t)
    t = t.detach()
    velocity, score = mixture.velocity(x, t), mixture.score(x, t)
    divergence = torch.zeros_like(t)
    for i in range(2):
        y = x.clone().requires_grad_()
        divergence += torch.autograd.grad(mixture.velocity(y, t)[:, i].sum(), y)[0][:, i]
    advected = (velocity * score).sum(1)
    size = 1 + change.abs() + advected.abs() + divergence.abs()
    assert float(((change + advected + divergence) / size).abs().max()) < 1e-11


def test_velocity_transports_the_density_in_sixteen_dimensions():
    mixture, t = mixture_16d(interpolant=VP()), torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    x = states(mixture, t)
    h = 1e-4
    change = (mixture.log_prob(x, t + h) - mixture.log_prob(x, t - h)) / (2 * h)
    jacobian = torch.stack(
        [torch.func.jacrev(lambda y, s=s: mixture.velocity(y, s))(y) for y, s in zip(x, t, strict=True)]
    )
    divergence = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    advected = (mixture.velocity(x, t) * mixture.score(x, t)).sum(1)
    # central differences: h^2 / 6 times a third derivative of up to 1e4, against terms of order 10 to 100
    torch.testing.assert_close(change, -advected - divergence, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("t", [0.1, 0.6, 0.95])
def test_denoised_is_the_posterior_mean_by_quadrature(t):
    mixture = mixture_1d()
    alpha, sigma = t, 1 - t
    mu, s, w = mixture.means[:, 0].numpy(), mixture.stds.numpy(), mixture.weights.numpy()

    def joint(y: float, x: float) -> float:
        return float(norm.pdf(y, mu, s) @ w) * norm.pdf(x, alpha * y, sigma)

    for x in (-1.2, 0.2, 1.5):
        peaks = {"points": (*mu, x / alpha), "limit": 400, "epsabs": 1e-13}
        mass = quad(lambda y, x=x: joint(y, x), -8, 8, **_inside(peaks))[0]
        first = quad(lambda y, x=x: y * joint(y, x), -8, 8, **_inside(peaks))[0]
        got = float(mixture.denoised(torch.tensor([[x]], dtype=torch.float64), t))
        assert got == pytest.approx(first / mass, abs=1e-9)


def _inside(options: dict) -> dict:
    return {**options, "points": [p for p in options["points"] if -8 < p < 8]}


@EVERY_PATH
def test_velocity_holds_the_same_denoised_sample_noise_and_score(path):
    mixture, t = mixture_2d(path), times()
    x, c = states(mixture, t), coefficients(path, t)
    raw = mixture.predict(x, t)
    # rounding of x (sigma up to 80) over the smaller of alpha and sigma, down to 2e-2
    torch.testing.assert_close(
        interpolants.denoised("velocity", raw, x, c), mixture.denoised(x, t), rtol=0, atol=1e-10
    )
    torch.testing.assert_close(
        interpolants.score("velocity", raw, x, c), mixture.score(x, t), rtol=1e-8, atol=1e-9
    )


@EVERY_PATH
def test_jacobian_is_that_of_autograd_and_of_the_posterior_covariance(path):
    mixture, t = mixture_2d(path), times(12)
    x = states(mixture, t)
    jacobian = mixture.denoised_jacobian(x, t)
    for row in range(len(x)):
        expected = torch.func.jacrev(lambda y, row=row: mixture.denoised(y, t[row]))(x[row])
        torch.testing.assert_close(jacobian[row], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(jacobian, jacobian.mT, rtol=0, atol=1e-11)
    log_weights, means, variances = mixture.posterior(x, t)
    weights = log_weights.exp()
    torch.testing.assert_close(weights.sum(1), torch.ones_like(t))
    mean = (weights[..., None] * means).sum(1)
    torch.testing.assert_close(mean, mixture.denoised(x, t), rtol=1e-12, atol=1e-12)
    centred = means - mean[:, None]
    covariance = torch.einsum("nk,nki,nkj->nij", weights, centred, centred)
    covariance += (weights * variances).sum(1)[:, None, None] * torch.eye(2, dtype=torch.float64)
    factor = path.alpha(t) / path.sigma(t) ** 2
    torch.testing.assert_close(jacobian, factor[:, None, None] * covariance, rtol=1e-9, atol=1e-11)


@EVERY_PATH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ends_are_finite_and_right(path, dtype):
    mixture = mixture_2d(path)
    x = mixture.sample(64, torch.Generator().manual_seed(0)).to(dtype)
    rows = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(32)
    for t in (0.0, 1.0, rows):
        for f in (
            mixture.velocity,
            mixture.score,
            mixture.denoised,
            mixture.denoised_jacobian,
            mixture.log_prob,
        ):
            result = f(x, t)
            assert result.dtype == dtype
            assert torch.isfinite(result).all()
    if float(path.alpha(0.0)) == 0:
        nothing_known = mixture.mean().to(dtype).expand(64, 2)
        torch.testing.assert_close(mixture.denoised(x, 0.0), nothing_known, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(mixture.score(x, 0.0), -x)
    if float(path.sigma(1.0)) == 0:
        torch.testing.assert_close(mixture.denoised(x, 1.0), x)


def test_linear_velocity_at_the_ends():
    mixture = mixture_2d()
    x = mixture.sample(8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixture.velocity(x, 0.0), mixture.mean() - x)  # E[x_1] - x_0
    torch.testing.assert_close(mixture.velocity(x, 1.0), x)  # x_1 - E[x_0]


@EVERY_PATH
def test_single_precision_follows_double_precision(path):
    # eps = 6e-8, times |x - alpha mu|^2 / v of up to 40 in a responsibility, times slopes up to 80
    mixture, t = mixture_2d(path), times(200)
    x = states(mixture, t)
    for f, slope in (
        (mixture.denoised, 1.0),
        (mixture.velocity, path.d_sigma(t).abs().max()),
        (mixture.score, 1.0),
    ):
        scale = float(slope) + 1
        torch.testing.assert_close(f(x.float(), t).double() / scale, f(x, t) / scale, rtol=2e-4, atol=2e-4)


def test_a_time_per_row_equals_one_time():
    mixture, x = gm2(), torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = torch.full((6,), 0.3, dtype=torch.float64)
    for f in (mixture.velocity, mixture.score, mixture.denoised, mixture.denoised_jacobian, mixture.log_prob):
        torch.testing.assert_close(f(x, each), f(x, 0.3))
        grouped = f(x.reshape(2, 3, 2), 0.3)
        torch.testing.assert_close(grouped.reshape(f(x, 0.3).shape), f(x, 0.3))


# --- tilts and moments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [TILT_1, TILT_3])
def test_linear_tilt_has_the_tabulated_truth(truth):
    mixture = mixture_2d()
    tilted, log_z = mixture.tilted_linear(DIRECTION, truth.tilt)
    assert tilted.weights.tolist() == pytest.approx(truth.mode_weights, abs=6e-4)
    assert tilted.expect_linear(DIRECTION) == pytest.approx(truth.expected_reward, abs=6e-4)
    assert log_z == pytest.approx(truth.log_evidence, abs=6e-4)
    assert mixture.expect_linear(DIRECTION) == pytest.approx(BASE_EXPECTED_REWARD, abs=1e-12)


def tilted_cases():
    a, center = torch.tensor(DIRECTION, dtype=torch.float64), torch.tensor([0.7, -0.4], dtype=torch.float64)
    for tilt in (-1.5, 0.0, 1.0, 3.0):
        yield mixture_2d().tilted_linear(a, tilt), lambda x, tilt=tilt: tilt * x @ a
        yield (
            mixture_2d().tilted_quadratic(center, tilt),
            lambda x, tilt=tilt: -tilt * ((x - center) ** 2).sum(-1) / 2,
        )


def test_tilted_density_is_the_base_density_times_the_exponential():
    x = 3 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for (tilted, log_z), exponent in tilted_cases():
        expected = mixture_2d().log_prob(x) + exponent(x) - log_z
        torch.testing.assert_close(tilted.log_prob(x), expected, rtol=1e-11, atol=1e-11)


def test_tilted_law_against_quadrature():
    # The trapezoid rule on a Gaussian of sd 0.3 with spacing 0.05 is exact to exp(-2 (pi 0.3 / 0.05)^2).
    axis = torch.arange(-16, 16, 0.05, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    density = mixture_2d().log_prob(x).exp() * 0.05**2
    assert float(density.sum()) == pytest.approx(1, abs=1e-12)
    for (tilted, log_z), exponent in tilted_cases():
        mass = density * exponent(x).exp()
        assert log_z == pytest.approx(math.log(mass.sum()), abs=1e-10)
        mass = mass / mass.sum()
        torch.testing.assert_close(tilted.mean(), mass @ x, rtol=1e-9, atol=1e-9)
        centred = x - mass @ x
        torch.testing.assert_close(tilted.cov(), centred.T @ (mass[:, None] * centred), rtol=1e-9, atol=1e-9)


@EVERY_PATH
def test_a_linear_tilt_shifts_the_state_of_the_denoiser(path):
    # D_tilted(x, t) = D(x + sigma^2 / alpha b, t) for exp(b.x); measured 6e-13 on the straight path
    mixture = mixture_16d(interpolant=path)
    b = 0.8 * torch.randn(16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    t = times(20, 0.05, 0.95)
    x = states(mixture, t)
    shift = (path.sigma(t) ** 2 / path.alpha(t))[:, None] * b
    tilted, _ = mixture.tilted_linear(b)
    scale = 1 + shift.norm(dim=1, keepdim=True)  # |shift| up to 2e4 (EDM) loses as many digits
    error = (mixture.denoised(x + shift, t) - tilted.denoised(x, t)) / scale
    assert float(error.abs().max()) < 1e-11


def test_impossible_tilt_is_refused():
    with pytest.raises(ConfigError, match="leaves no density"):
        mixture_2d().tilted_quadratic([0.0, 0.0], -3.0)  # the widest component has precision 2.78
    with pytest.raises(ConfigError, match="shape"):
        mixture_2d().tilted_linear([1.0])


@pytest.mark.parametrize("mixture", [mixture_2d(), gm2(), mixture_16d()], ids=["2d", "gm2", "16d"])
def test_sample_has_the_moments_of_the_law(mixture):
    # 5 standard errors: false alarm below 1e-6 per number; detects 0.03 sd in a mean, 4 % in a variance
    n = 40_000
    x = mixture.sample(n, torch.Generator().manual_seed(11))
    covariance = mixture.cov()
    error = (x.mean(0) - mixture.mean()) / (covariance.diagonal() / n).sqrt()
    assert float(error.abs().max()) < 5
    squares = (x - mixture.mean())[:, :, None] * (x - mixture.mean())[:, None, :]
    error = (squares.mean(0) - covariance) / (squares.std(0) / math.sqrt(n))
    assert float(error.abs().max()) < 5


def test_sample_recovers_the_weights_through_the_modes():
    mixture, n = mixture_2d(), 20_000
    counts = (
        torch.bincount(mixture.mode_of(mixture.sample(n, torch.Generator().manual_seed(5))), minlength=4) / n
    )
    # 5 standard errors of a count, and 0.002 for points nearer to another mode
    tolerance = 5 * (mixture.weights * (1 - mixture.weights) / n).sqrt() + 0.002
    assert ((counts - mixture.weights).abs() < tolerance).all()
    assert mixture.mode_of(mixture.means).tolist() == [0, 1, 2, 3]


def test_sample_is_repeatable_and_has_the_chosen_dtype():
    mixture = GaussianMixture([1.0, 1.0], [[0.0], [1.0]], [1.0, 1.0])
    a, b = (mixture.sample(5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert a.dtype == torch.float32
    assert torch.equal(a, b)


# --- as a model ---------------------------------------------------------------------------------------------


def test_is_a_model_without_conditions():
    mixture = mixture_2d("vp")
    assert (mixture.predicts, mixture.event_shape, mixture.modality, mixture.rows_per_look) == (
        "velocity",
        (2,),
        "vector",
        1,
    )
    assert mixture.interpolant == VP()
    assert mixture.encode([None, None]) is None
    with pytest.raises(ConfigError, match="no condition"):
        mixture.encode([None, 3])
    with pytest.raises(ConfigError, match="guidance"):
        mixture.given(None, guidance=2.0)
    x = torch.zeros(3, 2)
    assert mixture.decode(x) is x
    torch.testing.assert_close(
        mixture.to("cpu").predict(x, torch.tensor(0.5), None), mixture.velocity(x, 0.5)
    )


def test_weights_are_normalised():
    mixture = GaussianMixture([2.0, 6.0], [[0.0], [1.0]], [1.0, 1.0])
    assert mixture.weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "arguments",
    [
        ([1.0], [[0.0], [1.0]], [1.0, 1.0]),
        ([1.0, 1.0], [0.0, 1.0], [1.0, 1.0]),
        ([1.0, -1.0], [[0.0], [1.0]], [1.0, 1.0]),
        ([1.0, 1.0], [[0.0], [1.0]], [1.0, 0.0]),
        ([0.0, 0.0], [[0.0], [1.0]], [1.0, 1.0]),
        ([1.0, 1.0], [[0.0], [math.nan]], [1.0, 1.0]),
    ],
)
def test_bad_mixtures_are_refused(arguments):
    with pytest.raises(ConfigError):
        GaussianMixture(*arguments)


# --- distances of the oracles -------------------------------------------------------------------------------


def test_distances_of_a_shift_are_the_shift():
    x = mixture_2d().sample(500, torch.Generator().manual_seed(0))
    assert sliced_wasserstein_2(x, x[torch.arange(499, -1, -1)]) == 0
    # over random directions the mean square of a projection is |shift|^2 / d; 512 directions give it to 5 %
    shift = torch.tensor([0.3, -0.4], dtype=torch.float64)
    assert sliced_wasserstein_2(x, x + shift, directions=512) == pytest.approx(0.5 / math.sqrt(2), rel=0.1)
    assert sliced_wasserstein_2(x, x.repeat(2, 1)) < 1e-12
    line = mixture_1d().sample(60_000, torch.Generator().manual_seed(0))
    assert quantile_w1(line, mixture_1d()) < 0.015  # published floor .003 to .007; 4 times its usual size
    assert quantile_w1(line + 3.0, mixture_1d()) == pytest.approx(3.0, abs=0.015)
