"""The bundled Lennard-Jones cluster: what it is, and that its score is the force of the exact energy."""

from __future__ import annotations

import pytest
import torch
from itscale.experiments.compose_lennard_jones import Row, wasserstein
from itscale.experiments.lennard_jones_chains import ENERGY, centred, gas, hmc, icosahedra, laplacian, report

import itscale
from itscale.models.lennard_jones import PATH, TEMPERATURE


@pytest.fixture(scope="module")
def model():
    return itscale.load("lennard-jones")


@pytest.fixture(scope="module")
def clusters():
    """States of short chains at temperatures 2 and 0.8, (20, 13, 3) each."""
    generator = torch.Generator().manual_seed(0)
    return {
        temperature: hmc(start(20, generator), temperature, 40, generator).x
        for temperature, start in ((2.0, gas), (0.8, icosahedra))
    }


def test_model_states_what_it_is(model):
    assert model.event_shape == (12, 3)
    assert model.predicts == "denoised"
    assert model.interpolant == PATH
    assert model.data_moments == (0.0, pytest.approx(1.251**2))
    assert sum(p.numel() for p in model.space.parameters()) == 152_512


@pytest.mark.parametrize("temperature", [2.0, 0.8])
def test_score_at_little_noise_is_the_force_at_temperature_two(model, clusters, temperature):
    """Their cosine is 0.996 and 0.993; the mean of the noise that is left takes the rest away."""
    states, noise = model.states(clusters[temperature].float()), 0.02
    score = (model.predict(states, PATH.t_of_kappa(noise), None) - states) / noise**2
    force = -model.states(ENERGY.energy_and_gradient(clusters[temperature])[1]).float() / TEMPERATURE
    cosine = torch.nn.functional.cosine_similarity(score.flatten(1), force.flatten(1))
    assert cosine.mean() > 0.98


def test_model_knows_no_direction_or_name_of_points(model, clusters):
    x, t = clusters[2.0].float(), torch.tensor(0.6, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]

    def denoised(positions):
        return model.decode(model.predict(model.states(positions), t, None))

    torch.testing.assert_close(denoised(x @ turn), denoised(x) @ turn, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(denoised(x.flip(1)), denoised(x).flip(1), atol=1e-4, rtol=1e-4)


def test_annealed_samples_come_home_as_positions_and_are_scored_by_name(model):
    result = itscale.sample(
        model**1.2, method="fkc", reward="lennard-jones(temperature=2)", tilt=0.1, n=8, steps=10, seed=0
    )
    assert result.samples.shape == (1, 8, 13, 3)
    expected = -ENERGY.energy(result.samples[0]) / 2
    torch.testing.assert_close(result.rewards[0].float(), expected, rtol=1e-4, atol=1e-3)


def test_laplacian_is_the_trace_of_the_hessian():
    x = gas(2, torch.Generator().manual_seed(0))
    for state, found in zip(x, laplacian(x), strict=True):
        hessian = torch.autograd.functional.hessian(lambda y: ENERGY.energy(y[None])[0], state)
        torch.testing.assert_close(hessian.reshape(39, 39).trace(), found)


def test_moves_keep_the_law_of_a_harmonic_trap():
    """Points of no depth are normal in their trap: T per coordinate, here to 1.3 % standard error."""
    generator = torch.Generator().manual_seed(0)
    x = 3 * centred(torch.randn(200, 13, 3, generator=generator, dtype=torch.float64))
    weak = itscale.rewards.LennardJones(depth=1e-9)
    found = hmc(x, 0.5, 40, generator, size=0.3, keep=8, energy=weak)
    variance = float(found.kept[-600:].square().sum(dim=(1, 2)).mean()) / 36
    assert variance == pytest.approx(0.5, rel=0.05)
    assert found.accepted > 0.8


def test_distances_between_laws_are_those_of_shifted_numbers(clusters):
    """Of numbers moved by 3 they are 3; of a set of clusters to itself 0, whatever its order."""
    numbers = torch.randn(500, generator=torch.Generator().manual_seed(0))
    assert wasserstein(numbers, numbers + 3, 1) == pytest.approx(3, rel=1e-6)
    assert wasserstein(numbers, -numbers.flip(0) - 3, 2) >= wasserstein(numbers, -numbers.flip(0) - 3, 1)
    same = Row.of(clusters[2.0].flip(0), clusters[2.0])
    assert max(same.w1, same.w2, same.distance_w2) == pytest.approx(0, abs=1e-9)
    assert same.energy == pytest.approx(float(ENERGY.energy(clusters[2.0]).mean()))
    assert Row.of(1.1 * clusters[2.0], clusters[2.0]).distance_w2 > 0.1


@pytest.mark.slow
def test_both_starts_reach_equilibrium():
    """Energies agree, and virial and temperature of 100 chains are 1, within 4.89 errors."""
    rows = []
    for number, start in enumerate((gas, icosahedra)):
        generator = torch.Generator().manual_seed(number)
        x = hmc(start(100, generator), 0.8, 60, generator).x
        rows.append(report(hmc(x, 0.8, 60, generator, keep=6).kept, 100, 0.8))
    for row in rows:
        for mean, error in (row.virial, row.temperature):
            assert abs(mean - 1) < 4.89 * error
    (one, e), (other, f) = rows[0].energy, rows[1].energy
    assert abs(one - other) < 4.89 * (e**2 + f**2) ** 0.5
