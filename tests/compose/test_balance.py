"""What a run says of its weights: concentration, the virial, and a law that lies where no particle goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from itscale.experiments.compose_mixtures import Truth, errors, experts, grid, guided, mixture

import itscale
from itscale.engine import Particles
from itscale.methods import FKC
from itscale.process import ODE, SDE
from itscale.sampling.balance import balance

SETTINGS = {"n": 1000, "steps": 150, "grid": grid, "method": FKC()}


@pytest.mark.parametrize(
    ("pair", "path", "powers", "process"),
    [
        (experts, "vp", (3, 0), SDE()),
        (experts, "vp", (2, 2), SDE()),
        (experts, "ve", (3, 0), SDE()),
        (experts, "linear", (3, 0), SDE()),
        (guided, "vp", (4, -3), SDE()),
        (guided, "linear", (2, -1), ODE()),
    ],
)
def test_a_law_that_particles_follow_raises_no_warning(pair, path, powers, process):
    a, b = pair(path)
    law = a ** powers[0] * b ** powers[1] if powers[1] else a ** powers[0]
    assert itscale.sample(law, process=process, **SETTINGS).warnings == []


@pytest.mark.parametrize("weight", [4, 8])
def test_a_law_beyond_all_particles_is_warned_of(weight):
    """The condition has the wider tail: guidance puts the law at its end, where weights cannot bring it."""
    base = mixture([0.5, 0.5], [-1.5, 1.2], [0.6, 0.5])
    condition = mixture([0.1, 0.9], [-1.5, 1.2], [0.6, 0.65])
    result = itscale.sample(condition**weight * base ** (1 - weight), process=SDE(), **SETTINGS)
    truth = Truth.of(lambda x: weight * condition.log_prob(x) + (1 - weight) * base.log_prob(x))
    assert errors(result, truth)["tv"] > 0.5
    assert "may lie where no particle goes" in result.warnings[0]


def test_the_virial_is_zero_under_the_weights_and_not_without_them():
    a, b = guided()
    law = a**4 * b**-3
    late = slice(50, 140)
    weighted = itscale.sample(law, process=SDE(), **SETTINGS).trace[late]
    plain = itscale.sample(law, process=SDE(), **{**SETTINGS, "method": "unguided"}).trace[late]
    z = {}
    for name, rows in (("weighted", weighted), ("plain", plain)):
        virial = torch.tensor([row["virial"][0] for row in rows], dtype=torch.float64)
        z[name] = float(virial.abs().mean() / torch.tensor([r["virial_error"][0] for r in rows]).mean())
    assert z["weighted"] < 2
    assert z["plain"] > 4


def test_too_few_steps_are_warned_of():
    digits = itscale.load("digits")
    result = itscale.sample(digits.given(3) ** 3, method=FKC(particles=8), steps=4, process=SDE())
    assert any("use more steps" in warning and "within a step" in warning for warning in result.warnings)


def test_the_trace_says_how_far_weights_concentrate():
    a, _ = experts()
    result = itscale.sample(a**3, method=FKC(particles=50, ess_threshold=0.0), steps=30, process=SDE())
    rows = result.trace
    assert rows[-1]["largest_weight"] == pytest.approx(result.weights.amax(dim=1).tolist())
    assert rows[0]["largest_weight"] == [pytest.approx(1 / 50)]
    increments = torch.tensor([row["increment_std"][0] for row in rows])
    assert float(increments[0]) == pytest.approx(0, abs=1e-9)
    assert float(increments[1:-1].min()) > 0


def test_what_is_said_of_a_level_is_weighted():
    p = Particles.first(None, 1, 3)
    weights = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64)
    carry = {
        "virial": torch.tensor([[2.0, 0.0, 8.0]], dtype=torch.float64),
        "gained": torch.tensor([[0.0, 4.0, 4.0]], dtype=torch.float64),
    }
    found = balance(replace(p, log_weights=weights.log(), carry=carry), dimension=2)
    assert found["virial"] == [pytest.approx((0.5 * 2 + 0.25 * 8) / 2)]
    assert found["increment_std"] == [pytest.approx(2.0)]
    assert found["steep"] == [0.0]  # each is 2 from the weighted mean of 2, and not more
