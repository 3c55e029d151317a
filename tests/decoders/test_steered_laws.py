"""Laws of steered samples on 1,024 sequences, against figures found by enumeration."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import itscale
from itscale.methods import SVDD, NestedSMC, ParticleGibbs
from itscale.values import Completions, Tabulated
from tests.decoders.toy import toy, tv

CHAINS = 16_000
MEAN_SOFT = {  # by tilt and children: mean reward of SVDD with the exact soft value
    1.0: {1: -0.6976, 2: -0.3474, 4: -0.1100, 8: 0.0316, 16: 0.1087},
    2.0: {1: -0.6976, 2: -0.1445, 4: 0.3732, 8: 0.7998, 16: 1.0927},
}
MEAN_ARGMAX = {2: 0.160, 5: 1.539, 10: 2.464, 20: 3.098}


def exact(tilt: float, at: float | None = None) -> Tabulated:
    model, rewards, _ = toy()
    return Tabulated(model.soft_values(rewards, tilt if at is None else at))


def run(method: Any, tilt: float, value: Any, groups: int = 1) -> itscale.Result:
    model, _, reward = toy()
    return itscale.sample(model, reward=reward, method=method, tilt=tilt, value=value, groups=groups, seed=11)


def off(result: itscale.Result, expected: float, rounding: float = 5e-4) -> float:
    """Distance of the mean reward of independent chains, in standard errors."""
    error = float(result.rewards.std()) / result.rewards.numel() ** 0.5
    return max(0.0, abs(float(result.rewards.mean()) - expected) - rounding) / error


@pytest.mark.parametrize(
    ("tilt", "children", "expected"),
    [(t, m, mean) for t, row in MEAN_SOFT.items() for m, mean in row.items()],
)
def test_svdd_with_exact_values_is_biased_as_enumeration_says(tilt, children, expected):
    result = run(SVDD(particles=CHAINS, children=children), tilt, exact(tilt))
    assert off(result, expected, 5e-5) < 3


@pytest.mark.parametrize(("children", "expected"), MEAN_ARGMAX.items())
def test_the_best_child_at_every_step(children, expected):
    result = run(SVDD(particles=CHAINS, children=children, selection="argmax"), 2.0, exact(2.0))
    assert off(result, expected) < 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (exact(2.0), 0.910),
        (exact(0.0, 0.0), 0.660),
        ("denoised", 0.676),
        pytest.param(Completions(samples=128, average="mean"), 0.647, marks=pytest.mark.slow),
        pytest.param(Completions(samples=128), 0.858, marks=pytest.mark.slow),
    ],
    ids=["soft", "mean", "argmax completion", "mean of completions", "soft mean of completions"],
)
def test_ten_children_with_approximate_values(value, expected):
    many = isinstance(value, Completions)
    result = run(SVDD(particles=3000 if many else CHAINS, children=10), 2.0, value)
    # the figures are of infinitely many completions; 128 are off by a part in 128 of the reward's spread
    assert off(result, expected, 0.01 if many else 5e-4) < 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("particles", "children", "expected"),
    [(16, 1, 0.138), (64, 1, 0.060), (256, 1, 0.034), (8, 8, 0.049), (32, 8, 0.027)],
)
def test_corrected_samplers_come_as_close_as_they_should(particles, children, expected):
    method = NestedSMC(particles=particles, children=children, ess_threshold=1.0)
    result = run(method, 2.0, exact(2.0), groups=160_000 // particles)
    model, rewards, _ = toy()
    law, _ = model.tilted_law(rewards, 2.0)
    assert tv(model.histogram(result.states, result.weights), law) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("ancestor_sampling", [False, True])
def test_two_particles_are_enough_for_particle_gibbs(ancestor_sampling):
    """Conditional SMC keeps the target with any number of particles; two are hardest."""
    model, rewards, reward = toy()
    law, _ = model.tilted_law(rewards, 1.0)
    method = ParticleGibbs(
        particles=2, sweeps=60, burn_in=40, ancestor_sampling=ancestor_sampling, scheme="multinomial"
    )
    result = itscale.sample(model, reward=reward, method=method, groups=600, seed=3)
    per_group = result.expect(result.rewards).per_group
    error = float(per_group.std()) / 600**0.5
    assert abs(float(per_group.mean()) - float(law @ rewards)) < 3.5 * error
    plain = itscale.sample(model, reward=reward, method=NestedSMC(particles=2), groups=600, seed=3)
    biased = plain.expect(plain.rewards).per_group
    assert abs(float(biased.mean()) - float(law @ rewards)) > 8 * float(biased.std()) / 600**0.5


def test_chance_of_all_that_is_drawn_is_the_law_of_a_histogram():
    model = toy().model
    result = itscale.sample(model, n=200_000, seed=1)
    found = model.histogram(result.samples) * 200_000
    expected = model.law * 200_000
    heavy = expected > 20
    chi = ((found - expected) ** 2 / expected)[heavy].sum()
    degrees = int(heavy.sum())
    assert abs(float(chi) - degrees) < 4.89 * (2 * degrees) ** 0.5
    assert torch.equal(result.samples, result.states)
