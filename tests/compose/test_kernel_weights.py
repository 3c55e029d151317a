"""Weights from ratios of transition densities: right for any number of steps."""

from __future__ import annotations

import pytest
from itscale.experiments.compose_mixtures import Truth, errors, experts, grid

import itscale
from itscale.errors import ConfigError
from itscale.methods import FKC
from itscale.process import ODE, SDE

GROUPS, PARTICLES, STEPS = 400, 64, 12
Z = 4.89


def evidence(product, weights, **settings):
    """Z-hat over Z, and the same times a mean's error, (groups,) each."""
    truth = settings.pop("truth")
    result = itscale.sample(
        product.corrected(weights=weights),
        method=FKC(particles=PARTICLES),
        groups=GROUPS,
        steps=STEPS,
        solver="euler-maruyama",
        grid=grid,
        seed=5,
        **settings,
    )
    ratio = (result.log_evidence - truth.log_z).exp()
    means = (result.weights * result.samples[..., 0].double()).sum(1)
    return ratio, ratio * (means - truth.mean)


def deviation(values, truth):
    return float((values.mean() - truth) / (values.std() / GROUPS**0.5))


CASES = {
    "square": (lambda a, b: a**2, (2, 0)),
    "product": (lambda a, b: a * b, (1, 1)),
    "growing": (lambda a, b: a ** (lambda t: 1 + t), (2, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_evidence_and_means_have_no_bias_at_a_dozen_steps_and_the_integral_has(name):
    make, (one, other) = CASES[name]
    a, b = experts()
    truth = Truth.of(lambda x: one * a.log_prob(x) + other * b.log_prob(x))
    process = SDE(diffusion=1.5)
    ratio, shifted = evidence(make(a, b), "kernel", process=process, truth=truth)
    assert abs(deviation(ratio, 1.0)) < Z
    assert abs(deviation(shifted, 0.0)) < Z
    assert float(ratio.median()) == pytest.approx(1, abs=0.3)  # wrong weights have a tail that hides a bias
    ratio, _ = evidence(make(a, b), "euler", process=process, truth=truth)
    assert float(ratio.median()) > 1.5  # its tail is too heavy for a standard error of the mean


@pytest.mark.slow
def test_twenty_steps_are_enough_for_ratios_and_not_for_the_integral():
    a, _ = experts()
    truth = Truth.of(lambda x: 3 * a.log_prob(x))
    off = {}
    for weights in ("kernel", "euler"):
        runs = [
            errors(
                itscale.sample(
                    (a**3).corrected(weights=weights),
                    method=FKC(particles=5000),
                    steps=20,
                    solver="euler-maruyama",
                    grid=grid,
                    process=SDE(),
                    seed=seed,
                ),
                truth,
            )
            for seed in range(5)
        ]
        off[weights] = sum(run["tv"] for run in runs) / len(runs)
    assert off["kernel"] < 0.08
    assert off["euler"] > 0.15


def test_what_has_no_transition_density_is_refused():
    a, _ = experts()
    product = (a**2).corrected(weights="kernel")
    with pytest.raises(ConfigError, match="needs a solver whose transition is Gaussian"):
        itscale.sample(product, method="fkc", n=4, steps=5, process=ODE())
    with pytest.raises(ConfigError, match="needs a solver whose transition is Gaussian"):
        itscale.sample(product, method="fkc", n=4, steps=5, process=SDE(), solver="sde-heun")
