"""Weighted particles on real landscapes against exactly known tilted laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from itscale.rewards.dna_binding import standardised

import itscale
from itscale.experiments import dna_convergence as study
from itscale.models import EventLaw
from itscale.rewards import DnaBinding
from itscale.values import Tabulated


def test_expected_distance_of_independent_draws_is_exact():
    law = torch.tensor([0.6, 0.3, 0.1, 0.0], dtype=torch.float64)
    counts = np.random.default_rng(0).multinomial(7, law.numpy(), size=200_000) / 7
    distances = np.abs(counts - law.numpy()).sum(axis=1) / 2
    error = distances.std() / len(distances) ** 0.5
    assert abs(study.independent_draws(law, 7) - distances.mean()) < 4.89 * error


def test_bins_of_reward_are_equally_likely():
    rewards = standardised("PAX3")
    law = torch.full((65536,), 1 / 65536, dtype=torch.float64)
    mass = torch.zeros(64, dtype=torch.float64).index_add_(0, study.reward_bins(rewards, law), law)
    assert (mass - 1 / 64).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("factor", ["EGR2", "FOXC1", "PAX3"])
def test_distance_to_the_tilted_law_falls_with_the_root_of_particles(factor):
    base, rewards, tilt = itscale.load("dna-uniform"), standardised(factor), 2.0
    value, sizes, found = Tabulated(base.soft_values(rewards, tilt)), [256, 1024, 4096], []
    for n in sizes:
        method = itscale.methods.SMC(particles=n)
        result = itscale.sample(
            base, reward=DnaBinding(factor), tilt=tilt, method=method, value=value, groups=8, seed=0
        )
        found.append(np.mean(study.errors(base, result, rewards, tilt)["binned"]))
    # eight runs leave about 4 % on each distance, so 0.03 on the slope
    assert study.slope(sizes, found) == pytest.approx(-0.5, abs=0.12)


@pytest.mark.slow
def test_the_network_has_an_exact_tilted_law_too():
    model = itscale.load("dna")
    exact, rewards, tilt = EventLaw(model), standardised("PAX3"), 2.0
    law, log_z = exact.law.tilted_law(rewards, tilt)
    value = Tabulated(exact.soft_values(rewards, tilt))
    result = itscale.sample(
        model, reward=DnaBinding("PAX3"), tilt=tilt, method=itscale.methods.SMC(particles=512), value=value,
        groups=8, seed=0,
    )  # fmt: skip
    means = (result.weights * result.rewards).sum(dim=1)
    assert abs(means.mean() - (law * rewards).sum()) < 4.89 * means.std() / 8**0.5
    ratios = (result.log_evidence - log_z).exp()
    assert abs(ratios.mean() - 1) < 4.89 * ratios.std() / 8**0.5
