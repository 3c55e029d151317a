"""Expressions: what they hold, how they read, and what is refused."""

from __future__ import annotations

import pytest
import torch
from itscale.experiments.compose_mixtures import experts, guided, mixture

import itscale
from itscale.errors import ConfigError
from itscale.methods import FKC
from itscale.models import GaussianMixture, wrap
from itscale.models.algebra import Product
from itscale.process import ODE


def exponents(product):
    return [term.exponent for term in product.terms]


def test_powers_products_and_quotients_collect_exponents():
    a, b = experts()
    assert exponents(a**0.7 * b**1.3) == [0.7, 1.3]
    assert exponents((a * b) ** 2 / a) == [1, 2]
    assert exponents(a * a * b) == [2, 1]
    assert exponents((a / b) ** 3 * b) == [3, -2]  # guidance of weight 3
    assert exponents(a * b / b) == [1]
    growing = a ** (lambda t: 1 + t) * a
    assert growing.terms[0].at(0.5) == pytest.approx(2.5)
    assert growing.terms[0].rate(0.5) == pytest.approx(1.0)


def test_experts_are_one_by_network_condition_and_guidance():
    digits = itscale.load("digits")
    assert exponents(digits.given(3) * digits.given(3)) == [2]
    assert exponents(digits.given(3) * digits.given(5)) == [1, 1]
    assert exponents(digits.given(3, 2.0) * digits.given(3)) == [1, 1]


def test_expressions_read_as_they_are_written():
    digits = itscale.load("digits")
    name = type(digits).__name__
    text = repr(digits.given(3) ** 0.7 * digits.given(5) ** 1.3)
    assert text == f"{name}.given(3) ** 0.7 * {name}.given(5) ** 1.3"
    a, _ = experts()

    def ramp(t):
        return 1 + t

    assert repr(a**ramp) == "GaussianMixture ** ramp(t)"
    brightness = itscale.reward(name="brightness", modality="vector")(lambda vectors: vectors[:, 0])
    assert repr(a.tilted(brightness, 2)) == "(GaussianMixture).tilted(brightness, 2)"


def test_a_tilt_is_the_reward_of_the_run():
    a, _ = experts()
    reward = itscale.reward(name="first", modality="vector")(lambda vectors: vectors[:, 0])
    written = itscale.sample(a.tilted(reward, 0.5), method=FKC(particles=8), steps=5, process=itscale.SDE())
    passed = itscale.sample(
        Product.of(a), reward=reward, tilt=0.5, method=FKC(particles=8), steps=5, process=itscale.SDE()
    )
    assert torch.equal(written.log_weights, passed.log_weights)
    assert written.tilt == 0.5


def test_an_expert_on_another_path_is_converted():
    a, _ = experts("vp")
    _, b = experts("linear")
    _, same = experts("vp")
    one, other = (
        itscale.sample(product, method="unguided", n=16, steps=20, process=ODE(), seed=2)
        for product in (a * b, a * same)
    )
    torch.testing.assert_close(one.samples, other.samples, rtol=1e-6, atol=1e-6)


WIDE = GaussianMixture([1.0], [[0.0, 0.0]], [1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, b: a * WIDE, r"must live in one space: GaussianMixture has event_shape \(1,\)"),
        (lambda a, b: a * 2, "experts are multiplied with models, got 2"),
        (lambda a, b: a ** "2", "an exponent must be a finite number or a function of t, got '2'"),
        (lambda a, b: a ** float("inf"), "an exponent must be a finite number"),
        (lambda a, b: a.tilted(len).tilted(len), "has a reward already; add them"),
        (lambda a, b: a.tilted(len) ** 2, "take the power before the tilt"),
        (lambda a, b: b / a.tilted(len), "only one factor may be tilted"),
        (lambda a, b: (a * b).corrected(gauge="gausian"), "gauge must be one of gaussian"),
        (lambda a, b: (a * b).corrected(weights="heun"), "weights must be one of trapezoid"),
        (lambda a, b: (a * b).corrected(variance=0.0), "variance of the data must be > 0, got 0.0"),
        (lambda a, b: (a * b).given(3), "do not fit a composition; bind conditions to experts"),
    ],
)
def test_what_has_no_meaning_is_refused_when_it_is_written(make, message):
    with pytest.raises(ConfigError, match=message):
        make(*experts())


def test_what_cannot_be_sampled_is_refused_before_any_evaluation():
    a, b = experts()
    for product, message in (
        (a / b, "sum to 0 at t = 0"),
        (a / b**2, "sum to -1 at t = 0"),
        (a * b ** (lambda t: -2 * t), "sum to -1 at t = 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            itscale.sample(product, method="fkc", steps=5)
    with pytest.raises(ConfigError, match=r"bind it to an expert instead: model\.given\(3\)"):
        itscale.sample(a * b, method="fkc", steps=5, condition=3)
    network = wrap(lambda x, t: -x, predicts="velocity", event_shape=(1,), interpolant="vp")
    for product in ((network**2).corrected(weights="kernel"), network ** (lambda t: 1 + t)):
        with pytest.raises(ConfigError, match="need the density of every expert at every time, and Wrapped"):
            itscale.sample(product, method="fkc", steps=5)
    reward = itscale.reward(name="first", modality="vector")(lambda vectors: vectors[:, 0])
    with pytest.raises(ConfigError, match=r"give reward= or \.tilted\(\), not both"):
        itscale.sample(a.tilted(reward), reward=reward, steps=5)


def test_experts_of_one_network_are_asked_in_one_call():
    calls = []

    def network(x, t, condition):
        calls.append(len(x))
        return -x * condition.reshape(-1, 1)

    model = wrap(network, predicts="velocity", event_shape=(1,), interpolant="linear", conditional=True)
    spent = itscale.sample(
        model.given(0.5) * model.given(1.5), method=FKC(particles=6), steps=4, process=itscale.SDE()
    ).spent
    assert calls == [12] * 4
    assert spent.total("model_rows") == 48
    assert spent.total("nfe") == 24


def test_the_moments_of_the_gauge_are_those_of_the_experts_or_given():
    a, b = guided()
    mean, variance = (a * b).moments
    assert mean == pytest.approx((a.data_moments[0] + b.data_moments[0]) / 2)
    assert variance > max(a.data_moments[1], 0.5)
    assert (a * b).corrected(mean=0.25, variance=2.0).moments == (0.25, 2.0)
    one = mixture([1.0], [2.0], [0.5])
    assert one.data_moments == pytest.approx((2.0, 0.25))
