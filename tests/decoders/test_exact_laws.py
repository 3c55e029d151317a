"""Laws of samples against the model's, by enumeration: no tolerance for chance."""

from __future__ import annotations

import pytest
import torch

from itscale.decoders import AncestralTokens, Confidence, FirstHitting
from tests.decoders.laws import propagate
from tests.decoders.toy import toy, tv

ANCESTRAL = {1: 0.4031, 2: 0.2126, 4: 0.1098, 8: 0.0559, 16: 0.0282, 32: 0.0142}
COSINE = {1: 0.4031, 2: 0.2577, 4: 0.1396, 8: 0.0722, 16: 0.0367, 32: 0.0185}


def test_the_model_is_the_one_whose_figures_are_known():
    model, rewards, _ = toy()
    law = model.law
    assert float(-(law * law.log()).sum()) == pytest.approx(4.450565, abs=5e-7)
    assert float(law.max()) == pytest.approx(0.136425, abs=5e-7)
    assert float(law @ rewards) == pytest.approx(-0.697629, abs=5e-7)
    assert float(rewards.max()) == pytest.approx(3.857948, abs=5e-7)
    for tilt, mean, divergence in ((1, 0.189945, 0.455473), (2, 1.448040, 2.396349), (4, 3.488419, 7.954317)):
        tilted, log_z = model.tilted_law(rewards, tilt)
        assert float(tilted @ rewards) == pytest.approx(mean, abs=5e-7)
        assert tilt * mean - log_z == pytest.approx(divergence, abs=3e-6)


@pytest.mark.parametrize(
    "decoder",
    [FirstHitting(), *(Confidence(rule=rule) for rule in ("confidence", "entropy", "margin"))],
    ids=str,
)
def test_one_position_a_step_is_exact_in_any_order_of_the_context(decoder):
    assert tv(propagate(toy().model, decoder), toy().model.law) < 1e-12


@pytest.mark.parametrize(("steps", "expected"), ANCESTRAL.items())
def test_ancestral_sampling_is_off_by_the_known_error_of_parallel_decoding(steps, expected):
    assert tv(propagate(toy().model, "ancestral", steps), toy().model.law) == pytest.approx(
        expected, abs=5e-5
    )


@pytest.mark.parametrize(("steps", "expected"), COSINE.items())
def test_ancestral_sampling_on_a_cosine_schedule(steps, expected):
    found = propagate(toy().model, "ancestral", steps, schedule="cosine")
    assert tv(found, toy().model.law) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_fewer_steps_reveal_even_shares_and_are_off_by_less_than_ancestral_sampling(steps):
    found = propagate(toy().model, FirstHitting(), steps)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    assert tv(found, toy().model.law) <= ANCESTRAL.get(steps, 0.2) + 5e-5


@pytest.mark.parametrize("decoder", [FirstHitting(), AncestralTokens(), Confidence()], ids=str)
def test_probabilities_of_moves_sum_to_one(decoder):
    for steps in (1, 2, 4):
        total = propagate(toy().model, decoder, steps).sum()
        assert float(total) == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(
            propagate(toy().model, decoder, steps, weighted=True), propagate(toy().model, decoder, steps)
        )
