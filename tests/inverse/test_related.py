"""Minority scores, active measurement, in-betweening: each against what a closed form says."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.active import acquire, expected_entropy
from itscale.errors import ConfigError
from itscale.inbetweening import Inbetweening
from itscale.minority import Minority
from itscale.models import GaussianMixture
from itscale.operators import Dense, GaussianLikelihood, Mask, Projection, Stacked


def test_minority_scores_are_highest_for_rare_and_isolated_modes():
    model = GaussianMixture([0.9, 0.1], [[-1.0, 0.0], [2.5, 0.0]], [0.4, 0.4], dtype=torch.float64)
    reward = Minority(model, kappa=2.0, noisings=64)
    centres = reward(model.means)
    assert float(centres[1]) > 3 * float(centres[0])
    x = model.means.clone().requires_grad_()
    reward(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    torch.testing.assert_close(reward(model.means[1:]), centres[1:])  # no dependence on the batch


def test_a_run_tilted_by_the_minority_score_goes_to_the_rare_mode():
    model = GaussianMixture([0.9, 0.1], [[-1.0, 0.0], [2.5, 0.0]], [0.4, 0.4])
    plain = itscale.sample(model, n=64, steps=20, groups=8)
    tilted = itscale.sample(
        model, reward=Minority(model, kappa=2.0, noisings=8), tilt=1.0, particles=64, steps=20, groups=8
    )
    share = tilted.expect((tilted.samples[..., 0] > 0.75).double())
    assert share.value > float((plain.samples[..., 0] > 0.75).double().mean()) + 0.1


def test_entropy_chooses_the_direction_of_largest_posterior_variance():
    """Of a Gaussian the most informative of several equally noisy coordinates is the widest."""
    generator = torch.Generator().manual_seed(0)
    sds = torch.tensor([0.2, 1.5, 0.7, 1.0], dtype=torch.float64)
    x = sds * torch.randn(400, 4, generator=generator, dtype=torch.float64)
    rows = torch.eye(4, dtype=torch.float64)
    candidates = [Dense(row[None], (4,)) for row in rows]
    weights = torch.full((400,), 1 / 400, dtype=torch.float64)
    scores = expected_entropy(candidates, x, weights, 0.5)
    assert scores.argsort(descending=True).tolist() == sds.argsort(descending=True).tolist()
    # for Gaussian data of variance v it is 0.5 (log(1 + v / (2 sigma^2)) + v / (2 sigma^2 + v)) and a
    # constant
    expected = (torch.log1p(sds**2 / 0.5) + sds**2 / (0.5 + sds**2)) / 2
    torch.testing.assert_close(scores - scores[0], expected - expected[0], rtol=0, atol=0.15)


def test_entropy_weighs_particles():
    x = torch.tensor([[0.0], [5.0]], dtype=torch.float64)
    operator = [Dense(torch.ones(1, 1, dtype=torch.float64), (1,))]
    both = expected_entropy(operator, x, torch.tensor([0.5, 0.5]).double(), 0.1)
    one = expected_entropy(operator, x, torch.tensor([1.0, 0.0]).double(), 0.1)
    assert float(both) == pytest.approx(math.log(2), abs=1e-6)
    assert float(one) == pytest.approx(0.0, abs=1e-12)


def test_measurements_are_acquired_where_the_posterior_is_widest():
    model = GaussianMixture([0.5, 0.5], [[-2.0, 0.0, 0.3], [2.0, 0.0, -0.3]], [0.3, 0.3], dtype=torch.float64)
    truth = torch.tensor([2.1, 0.1, -0.2], dtype=torch.float64)
    candidates = [Dense(row[None], (3,)) for row in torch.eye(3, dtype=torch.float64)]
    done = acquire(
        model,
        candidates,
        lambda c: candidates[c](truth[None])[0] + 0.05,
        rounds=2,
        sigma=0.1,
        method=itscale.methods.ConjugateSMC(particles=64),
        steps=30,
        groups=2,
    )
    assert done.chosen[0] == 0  # which tells the modes apart
    assert len(set(done.chosen)) == 2
    assert done.likelihood.operator.measurement_shape == (2,)
    mean = done.result.expect(lambda x: x[:, 0])
    assert mean.value == pytest.approx(2.1, abs=0.15)
    with pytest.raises(ConfigError, match=r"rounds must be in \[1, 3\]"):
        acquire(model, candidates, lambda c: truth[:1], rounds=4, sigma=0.1, method="smc")


def test_stacked_operators_are_the_simplest_that_they_can_be():
    a = Dense(torch.ones(1, 16), (1, 4, 4))
    assert isinstance(Stacked((a, a)).simplest(), Dense)
    mixed = Stacked((a, Projection((1, 4, 4), 2)))
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert mixed(x).shape == (3, 9)
    torch.testing.assert_close(mixed.simplest()(x), mixed(x))
    with pytest.raises(ConfigError, match="samples of one shape"):
        Stacked((a, Mask(torch.ones(3, dtype=torch.bool))))
    with pytest.raises(ConfigError, match="numbers"):
        expected_entropy([a, Dense(torch.ones(2, 16), (1, 4, 4))], x, torch.ones(3).double() / 3, 0.1)


def walk(frames: int = 5) -> itscale.models.Wrapped:
    """Random walks x_1, x_2, ... whose denoiser knows the first frame: exact, and blind to the last."""
    index = torch.arange(frames - 1, dtype=torch.float64) + 1
    cov = torch.minimum(index[:, None], index)  # of x_k - x_1

    def denoise(x, t, first):
        t = t.clamp_min(1e-4)  # at pure noise the state says nothing, and 0 / 0 is none either
        s2 = ((1 - t) / t)[:, None] ** 2
        z = x / t[:, None]
        values, vectors = torch.linalg.eigh(cov.to(x))
        away = (z[:, 1:] - first[:, None]) @ vectors
        known = first[:, None] + (away * values / (values + s2)) @ vectors.T
        return torch.cat([first[:, None], known], dim=1)

    return itscale.models.wrap(
        denoise, predicts="denoised", interpolant="linear", event_shape=(frames,), conditional=True
    )


def test_frames_between_meet_both_ends():
    model = walk()
    videos = Inbetweening(steps=25)(model, torch.tensor(0.0), torch.tensor(4.0), n=200)
    assert videos.shape == (200, 5)
    torch.testing.assert_close(videos[:, 0], torch.zeros(200), rtol=0, atol=1e-6)
    torch.testing.assert_close(videos[:, -1], torch.full((200,), 4.0), rtol=0, atol=0.05)
    middle = videos.mean(0)
    # a bridge between 0 and 4 passes 1, 2, 3; a walk from either end alone stays level on average
    assert bool((middle.diff() > 0.3).all())
    one_way = itscale.sample(model, n=200, steps=25, condition=0.0).samples[0].mean(0)
    assert float(one_way.abs().max()) < 0.6


def test_guided_frames_take_their_noise_from_the_model_without_a_condition():
    """Both conditions and none are asked for, and a model that is deaf to them moves as without guidance."""
    calls = []

    def denoise(x, t, first):
        calls.append(first.clone())
        return 0.5 * x + first[:, None]

    model = itscale.models.wrap(
        denoise, predicts="denoised", interpolant="linear", event_shape=(4,), conditional=True,
        null_condition=0.25,
    )  # fmt: skip
    plain = Inbetweening(steps=4, kappa_max=10.0)
    settings = {"n": 3, "seed": 1}
    first, last = torch.tensor(1.0), torch.tensor(-1.0)
    twice = Inbetweening(steps=4, kappa_max=10.0, guidance=2.0)(model, first, last, **settings)
    assert {float(c[0]) for c in calls} == {1.0, -1.0, 0.25}
    assert not torch.allclose(twice, plain(model, first, last, **settings))
    # a model to which conditions mean nothing is guided nowhere, whatever the scale
    deaf = itscale.models.wrap(
        lambda x, t, c: 0.5 * x, predicts="denoised", interpolant="linear", event_shape=(4,),
        conditional=True, null_condition=0.25,
    )  # fmt: skip
    torch.testing.assert_close(
        Inbetweening(steps=4, kappa_max=10.0, guidance=7.0)(deaf, first, last, **settings),
        plain(deaf, first, last, **settings),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inbetweening(steps=1), "steps must be"),
        (lambda: Inbetweening(kappa_min=0.0), "kappa_min"),
        (lambda: Inbetweening(axis=3)(walk(), torch.tensor(0.0), torch.tensor(1.0)), "no axis of states"),
        (lambda: Inbetweening()(walk(), torch.zeros(2), torch.tensor(1.0)), r"first must be a frame \(\)"),
        (lambda: Inbetweening()(walk(2), torch.tensor(0.0), torch.tensor(1.0)), "nothing between"),
        (lambda: Minority(GaussianMixture([1.0], [[0.0]], [1.0]), kappa=0.0), "kappa must be"),
        (lambda: Minority(GaussianMixture([1.0], [[0.0]], [1.0]), noisings=0), "noisings"),
    ],
)
def test_what_cannot_work_says_why(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_noise_optimisation_takes_a_likelihood():
    """DITTO's use of noise ascent: the reward is the likelihood of a measurement, the sampler
    deterministic."""
    model = GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    likelihood = GaussianLikelihood(Dense(torch.tensor([[1.0, 0.0]]), (2,)), torch.tensor([1.5]), 0.3)
    before = itscale.sample(model, n=4, steps=8, seed=2)
    after = itscale.sample(
        model, reward=likelihood, method=itscale.methods.ReNO(particles=4, iterations=30, rate=0.1),
        process=itscale.ODE(), solver="ddim", steps=8, seed=2,
    )  # fmt: skip
    gap = (after.samples[..., 0] - 1.5).abs().mean()
    assert float(gap) < 0.5 * float((before.samples[..., 0] - 1.5).abs().mean())
