"""Densities by the ODE against the exact ones of a Gaussian mixture."""

from __future__ import annotations

import math

import pytest
import torch

from itscale.errors import ConfigError
from itscale.models import GaussianMixture, log_prob, wrap
from tests.oracles import mixture_2d

ROWS = 12


def points(mixture, n=ROWS):
    return mixture.sample(n, torch.Generator().manual_seed(0))


def largest_error(mixture, x, **options):
    return float((log_prob(mixture, x, **options).values - mixture.log_prob(x)).abs().max())


@pytest.mark.parametrize(("solver", "steps", "low", "high"), [("heun", 32, 1.8, 2.6), ("rk4", 16, 3.6, 4.8)])
def test_error_falls_with_the_order_of_the_solver(solver, steps, low, high):
    mixture = mixture_2d()
    x = points(mixture)
    coarse, fine = (largest_error(mixture, x, steps=s, solver=solver) for s in (steps, 2 * steps))
    assert low < math.log2(coarse / fine) < high


# What is left on paths that end with noise, or start with some data, is the difference between their ends and
# pure data or pure noise: alpha(0) = 0.0066 on VP, kappa(t_max) = 0.002 on EDM.
@pytest.mark.parametrize(
    ("path", "tolerance"),
    [("linear", 1e-4), ("trigonometric", 1e-4), ("cosine", 1e-4), ("vp", 5e-3), ("edm", 1e-2)],
)
def test_density_is_exact_on_every_path(path, tolerance):
    mixture = mixture_2d(path)
    assert largest_error(mixture, points(mixture), steps=32) < tolerance


def test_hutchinson_is_unbiased_within_its_standard_error():
    mixture = mixture_2d()
    x = points(mixture)
    exact = log_prob(mixture, x, steps=8)
    estimate = log_prob(mixture, x, steps=8, divergence="hutchinson", probes=64)
    z = (estimate.values - exact.values) / estimate.standard_error
    # 12 t-values of 63 degrees: beyond 4.6 once in 5 000 runs; a missing or doubled term is 30 away
    assert float(z.abs().max()) < 4.6
    assert float(estimate.standard_error.min()) > 0


def test_probes_belong_to_rows_and_not_to_batches():
    mixture = mixture_2d()
    x = points(mixture, 5)
    options = {"steps": 4, "divergence": "hutchinson", "probes": 2}
    together, apart = log_prob(mixture, x, **options), log_prob(mixture, x, microbatch=2, **options)
    torch.testing.assert_close(together.values, apart.values, rtol=1e-12, atol=1e-12)
    assert not torch.equal(together.values, log_prob(mixture, x, seed=1, **options).values)


@pytest.mark.parametrize("kind", ["denoised", "score"])
def test_prediction_kind_does_not_matter(kind):
    mixture = mixture_2d("vp")
    if kind == "score":
        network, predicts = lambda x, t: -mixture.interpolant.sigma(t)[:, None] * mixture.score(x, t), "noise"
    else:
        network, predicts = mixture.denoised, "denoised"
    model = wrap(network, predicts=predicts, interpolant="vp", event_shape=(2,))
    x = points(mixture, 4)
    torch.testing.assert_close(model.log_prob(x, steps=8), log_prob(mixture, x, steps=8).values)


def test_conditions_are_per_row_and_bound_ones_are_used():
    def velocity(x, t, centre):  # data N(centre, 0.25) on the linear path
        variance = (t**2 * 0.25 + (1 - t) ** 2)[:, None]
        offset = x - t[:, None] * centre[:, None]
        return centre[:, None] + (0.25 * t - (1 - t))[:, None] / variance * offset

    model = wrap(
        velocity,
        predicts="velocity",
        interpolant="linear",
        event_shape=(1,),
        conditional=True,
        null_condition=0.0,
    )
    x = torch.tensor([[0.3], [0.3]], dtype=torch.float64)
    truth = [-((0.3 - c) ** 2) / 0.5 - math.log(0.5 * math.sqrt(2 * math.pi)) for c in (0.0, 1.0)]
    assert model.log_prob(x, [None, 1.0]).tolist() == pytest.approx(truth, abs=1e-5)
    assert log_prob(model.given(1.0), x).values.tolist() == pytest.approx(truth[1:] * 2, abs=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_bound_model_has_the_density_of_its_guided_sampler(guidance):
    def velocity(x, t, slope):
        return slope[:, None] * x

    model = wrap(
        velocity,
        predicts="velocity",
        interpolant="linear",
        event_shape=(2,),
        conditional=True,
        null_condition=0.0,
    ).given(0.4, guidance)
    x = torch.tensor([[0.3, -1.0], [2.0, 0.0]], dtype=torch.float64)
    assert torch.equal(model.log_prob(x, steps=16), log_prob(model, x, steps=16).values)
    # dx = a x dt with a = 0.4 guidance carries N(0, 1) to N(0, exp(2 a))
    std = math.exp(0.4 * guidance)
    exact = -(x**2).sum(1) / (2 * std**2) - 2 * math.log(std * math.sqrt(2 * math.pi))
    torch.testing.assert_close(model.log_prob(x), exact, rtol=0, atol=1e-5)  # RK4, 32 steps


def test_cost_counts_rows_of_network_and_backward_passes():
    mixture = mixture_2d()
    x = points(mixture, 3)
    exact = log_prob(mixture, x, steps=2)
    assert (exact.model_rows, exact.backward_rows) == (3 * 2 * 4, 3 * 2 * 4 * 2)
    estimate = log_prob(mixture, x, steps=2, solver="heun", divergence="hutchinson", probes=5)
    assert (estimate.model_rows, estimate.backward_rows) == (3 * 2 * 2, 3 * 2 * 2 * 5)
    assert bool(exact.standard_error.eq(0).all())


def test_large_events_are_estimated():
    mixture = GaussianMixture([1.0], torch.zeros(1, 65), [1.0])
    estimate = log_prob(mixture, torch.zeros(1, 65), steps=2, probes=1)
    assert estimate.backward_rows == 2 * 4
    assert bool(estimate.standard_error.isnan().all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"probes": 0}, "probes"),
        ({"solver": "euler"}, "solver"),
        ({"divergence": "none"}, "divergence"),
        ({"condition": [None]}, "1 entries for 2 rows"),
    ],
)
def test_settings_that_cannot_work_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        log_prob(mixture_2d(), torch.zeros(2, 2), **options)


def test_shape_of_states_is_checked():
    with pytest.raises(ConfigError, match=r"\(rows, 2\)"):
        log_prob(mixture_2d(), torch.zeros(2, 3))
