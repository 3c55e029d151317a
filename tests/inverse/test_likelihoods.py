"""Likelihoods against densities of scipy, and what a sampler sees of them in units of states."""

from __future__ import annotations

import pytest
import torch
from scipy import integrate, stats

import itscale
from itscale.errors import ConfigError
from itscale.models import GaussianMixture
from itscale.models.measured_mixture import MeasuredMixture
from itscale.operators import (
    BlockAverage,
    Dense,
    Function,
    GaussianLikelihood,
    IntervalLikelihood,
    LaplaceLikelihood,
    Mask,
    Observed,
    PoissonLikelihood,
    Quantise,
    likelihood_of,
)
from itscale.scoring import as_reward

ALL = Mask(torch.ones(3, dtype=torch.bool))
X = torch.tensor([[0.2, 1.4, 3.0], [1.0, 0.0, 2.0]], dtype=torch.float64)
Y = torch.tensor([0.0, 2.0, 3.0])


def test_likelihoods_are_the_densities_of_their_noise():
    gauss = stats.norm(X.numpy(), 0.5).logpdf(Y.numpy()).sum(1)
    laplace = stats.laplace(X.numpy(), 0.5).logpdf(Y.numpy()).sum(1)
    poisson = stats.poisson((2 * X.clamp_min(1e-3)).numpy()).logpmf(Y.numpy()).sum(1)
    assert GaussianLikelihood(ALL, Y, 0.5)(X).tolist() == pytest.approx(gauss.tolist())
    assert LaplaceLikelihood(ALL, Y, 0.5)(X).tolist() == pytest.approx(laplace.tolist())
    assert PoissonLikelihood(ALL, Y, 2.0)(X).tolist() == pytest.approx(poisson.tolist())


def test_probabilities_of_cells_sum_to_one_and_keep_their_digits_far_out():
    one = Mask(torch.ones(1, dtype=torch.bool))
    q = Quantise((1,), bits=2)
    x = torch.tensor([[0.3], [0.9], [30.0]], dtype=torch.float64)
    cells = torch.tensor([[0.125], [0.375], [0.625], [0.875]])
    logs = torch.stack([IntervalLikelihood(one, cell, q, 0.1)(x) for cell in cells])
    torch.testing.assert_close(torch.logsumexp(logs, 0), torch.zeros(3).double(), atol=1e-12, rtol=0)
    exact = stats.norm.cdf(0.5, 0.3, 0.1) - stats.norm.cdf(0.25, 0.3, 0.1)
    assert float(logs[1, 0].exp()) == pytest.approx(exact)
    assert bool(logs.isfinite().all())


def test_cells_of_a_quantiser_have_a_gradient_although_it_has_none():
    one = Mask(torch.ones(1, dtype=torch.bool))
    x = torch.tensor([[0.2]], requires_grad=True)
    IntervalLikelihood(one, torch.tensor([0.75]), Quantise((1,), bits=1), 0.2)(x).sum().backward()
    assert x.grad is not None
    assert float(x.grad) > 0


def test_a_likelihood_is_a_reward_and_knows_whether_it_has_a_gradient():
    likelihood = GaussianLikelihood(ALL, Y, 0.5)
    reward = as_reward(likelihood)
    assert reward.gradient_ready
    assert likelihood_of(reward) is likelihood
    assert likelihood_of(as_reward(likelihood) * 2) is None
    assert likelihood_of(as_reward("ink")) is None
    black = Function(lambda x: x.round(), (3,), is_differentiable=False)
    assert not as_reward(GaussianLikelihood(black, Y, 0.5)).gradient_ready
    torch.testing.assert_close(reward.score(X).values, likelihood(X))


def test_states_are_measured_in_units_of_samples_without_the_clamp():
    digits = itscale.load("digits")
    operator = BlockAverage((1, 28, 28), 2)
    y = torch.full(operator.measurement_shape, 0.5)
    seen = Observed.of(GaussianLikelihood(operator, y, 0.1), digits.given(3))
    assert seen is not None
    assert seen.affine == (0.5, 0.5)
    x = torch.full((1, 1, 28, 28), 1.4)
    torch.testing.assert_close(seen.gap(x, digits.decode), torch.full((1, 1, 14, 14), 0.5 - 1.2))
    # a block of states in [-1, 1] averages to y when it is 0, with noise 0.2 / (1 / 2) in spectral
    # coordinates
    c = seen.coordinates
    assert float(c.value.abs().max()) < 1e-6
    assert c.tau.tolist() == pytest.approx([0.4] * 196)


def test_a_decoder_of_ones_own_is_not_affine_and_is_used():
    model = itscale.models.wrap(
        lambda x, t: -x, predicts="velocity", interpolant="linear", event_shape=(4,), decode=lambda z: z**3
    )
    seen = Observed.of(GaussianLikelihood(Mask(torch.ones(4, dtype=torch.bool)), torch.zeros(4), 1.0), model)
    assert seen is not None
    assert seen.affine is None
    assert not seen.is_linear
    assert seen.gap(2 * torch.ones(1, 4), model.decode).tolist() == [[-8.0] * 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianLikelihood(ALL, torch.zeros(1, 3), 0.1), r"shape \(1, 3\).* without a batch axis"),
        (lambda: GaussianLikelihood(ALL, torch.zeros(4), 0.1), r"shape \(4,\), and Mask measures \(3,\)"),
        (lambda: GaussianLikelihood(ALL, Y, 0.0), "sigma must be .* got 0.0.*noiseless=True"),
        (lambda: GaussianLikelihood(ALL, Y, float("nan")), "sigma must be"),
        (lambda: GaussianLikelihood(ALL, torch.tensor([0.0, 1.0, float("nan")]), 1.0), "NaN or infinity"),
        (lambda: GaussianLikelihood(lambda x: x, Y, 1.0), "wrap a function in operators.Function"),
        (lambda: GaussianLikelihood(ALL, [1.0, 2.0, 3.0], 1.0), "must be a tensor, got list"),
        (lambda: PoissonLikelihood(ALL, Y + 0.5, 1.0), "counts"),
        (lambda: PoissonLikelihood(ALL, Y, 0.0), "gain must be"),
        (lambda: IntervalLikelihood(ALL, Y, Quantise((3,)), 0.1), "does not return"),
    ],
)
def test_measurements_that_cannot_be_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_posterior_of_a_mixture_agrees_with_quadrature():
    prior = GaussianMixture([0.6, 0.4], [[-1.0, 0.5], [1.2, -0.3]], [0.5, 0.8], dtype=torch.float64)
    matrix, y, sigma = torch.tensor([[1.0, 0.4]], dtype=torch.float64), torch.tensor([0.7]), 0.6
    exact = MeasuredMixture.of(prior, matrix, y.double(), sigma)
    likelihood = GaussianLikelihood(Dense(matrix, (2,)), y.double(), sigma)

    def joint(b: float, a: float) -> float:
        x = torch.tensor([[a, b]], dtype=torch.float64)
        return float((prior.log_prob(x) + likelihood(x)).exp())

    def moment(f) -> float:
        return integrate.dblquad(lambda b, a: f(a, b) * joint(b, a), -6, 6, -6, 6, epsabs=1e-5)[0]

    z = moment(lambda a, b: 1.0)
    assert exact.log_evidence == pytest.approx(float(torch.tensor(z).log()), abs=1e-5)
    assert float(exact.mean()[0]) == pytest.approx(moment(lambda a, b: a) / z, abs=1e-5)
    second = moment(lambda a, b: a * b) / z - float(exact.mean()[0]) * float(exact.mean()[1])
    assert float(exact.cov()[0, 1]) == pytest.approx(second, abs=1e-5)


def test_draws_of_the_posterior_follow_it():
    prior = GaussianMixture([0.6, 0.4], [[-1.0, 0.5], [1.2, -0.3]], [0.5, 0.8], dtype=torch.float64)
    matrix = torch.tensor([[1.0, 0.4]], dtype=torch.float64)
    exact = MeasuredMixture.of(prior, matrix, torch.tensor([0.7], dtype=torch.float64), 0.6)
    x = exact.sample(20_000, torch.Generator().manual_seed(0))
    error = exact.cov().diagonal().sqrt() / 20_000**0.5
    assert bool(((x.mean(0) - exact.mean()).abs() < 4.89 * error).all())
    torch.testing.assert_close(torch.cov(x.T), exact.cov(), rtol=0, atol=0.03)  # 4.9 standard errors
    torch.testing.assert_close(exact.share(x).mean(0), exact.weights, rtol=0, atol=0.015)
