"""Particle Gibbs: right for two particles, given sweeps; what SMC of two particles is far from."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import SMC, ParticleGibbs
from tests.contracts.methods import STEPS, Z, base_law, reward, run, tilted_truth
from tests.solvers.drive import gaussian


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
@pytest.mark.parametrize("ancestor_sampling", [False, True])
def test_two_particles_reach_the_tilted_law_by_sweeps(scheme, ancestor_sampling):
    """SMC of two particles is off by 0.4; what is left of that after 20 sweeps is far below an error."""
    method = ParticleGibbs(
        particles=2, sweeps=24, burn_in=20, scheme=scheme, ancestor_sampling=ancestor_sampling
    )
    target, _ = tilted_truth()
    found = run(method, groups=1000)
    second = target**2 + base_law()[1]  # a linear tilt moves a Gaussian and leaves its variance
    for function, truth in ((found.rewards, target), (found.rewards**2, second)):
        per_group = found.expect(function).per_group
        error = float(per_group.std()) / math.sqrt(1000)
        assert abs(float(per_group.mean()) - truth) <= Z * error
    plain = run(SMC(particles=2), groups=1000)
    assert float(plain.expect(plain.rewards).per_group.mean()) < target - 0.2


def test_a_sweep_costs_a_particle_less_and_keeps_the_retained_path():
    method = ParticleGibbs(particles=5, sweeps=3, burn_in=0)
    result = run(method, groups=2)
    assert result.spent.nfe == result.spent.reward_calls == [STEPS * (5 + 3 * 4)] * 2
    assert result.particles == 20
    weights = result.log_weights.reshape(2, 4, 5).exp().sum(-1)
    torch.testing.assert_close(weights, torch.full((2, 4), 5.0, dtype=torch.float64))
    # slot 0 of a sweep holds what was retained: a sample of the sweep before
    samples = result.samples.reshape(2, 4, 5)
    for sweep in range(1, 4):
        for group in range(2):
            assert (samples[group, sweep, 0] == samples[group, sweep - 1]).any()


def test_settings_that_cannot_work_are_refused():
    for bad, message in (
        ({"particles": 1}, "particles must be a whole number >= 2"),
        ({"sweeps": 0}, "sweeps"),
        ({"sweeps": 3, "burn_in": 4}, "burn_in=4 leaves none of 4 sweeps"),
        ({"scheme": "ssp"}, "scheme must be multinomial or systematic, got 'ssp'"),
    ):
        with pytest.raises(ConfigError, match=message):
            ParticleGibbs(**bad)
    sampling = ParticleGibbs(particles=4, ancestor_sampling=True)
    for solver, message in (("2m-sde", "remembers the past"), ("sde-heun", "is not Gaussian")):
        with pytest.raises(ConfigError, match=message):
            itscale.sample(gaussian(0, 1), reward=reward, method=sampling, solver=solver, steps=4)
    # without ancestor sampling any solver will do, and with it the default is one that fits
    for method, solver in ((ParticleGibbs(particles=4), "2m-sde"), (sampling, None)):
        itscale.sample(gaussian(0, 1), reward=reward, method=method, solver=solver, steps=4)
    with pytest.raises(BudgetError, match="lower sweeps or steps"):
        run(ParticleGibbs(), groups=1, budget=itscale.Budget(nfe=40))
