"""The certain reward that is worth several uncertain ones, for any tilt."""

from __future__ import annotations

import math

import pytest
import torch

from itscale.values import certainty_equivalent

REWARDS = torch.tensor([[0.3, -1.2, 2.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
VALID = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize("tilt", [1e-6, 0.1, 1.0, 7.0])
def test_it_is_the_log_mean_exp_over_the_tilt(tilt):
    found = certainty_equivalent(REWARDS, VALID, tilt)
    expected = [math.log(sum(math.exp(tilt * r) for r in row) / 3) / tilt for row in REWARDS.tolist()]
    # the plain formula loses 1e-16 / tilt to cancellation
    assert found.tolist() == pytest.approx(expected, abs=1e-15 / min(tilt, 1) + 1e-14)


def test_without_a_tilt_it_is_the_mean_and_small_tilts_tend_to_it():
    mean = REWARDS.mean(dim=1)
    torch.testing.assert_close(certainty_equivalent(REWARDS, VALID, 0.0), mean)
    for tilt in (1e-9, 1e-100):
        torch.testing.assert_close(certainty_equivalent(REWARDS, VALID, tilt), mean, rtol=0, atol=1e-8)


def test_a_sharp_tilt_finds_the_best_without_overflow():
    found = certainty_equivalent(1e6 * REWARDS, VALID, 1e6)
    torch.testing.assert_close(found, 1e6 * REWARDS.amax(dim=1))


def test_samples_without_a_score_are_left_out_and_minus_infinity_counts():
    valid = torch.tensor([[True, False, True], [False, False, False]])
    found = certainty_equivalent(REWARDS.nan_to_num(), valid, 1.0)
    assert float(found[0]) == pytest.approx(math.log((math.exp(0.3) + math.exp(2.0)) / 2))
    assert found[1].isnan()
    dead = torch.tensor([[-math.inf, 1.0, -math.inf], [-math.inf] * 3], dtype=torch.float64)
    found = certainty_equivalent(dead, VALID, 1.0)
    assert float(found[0]) == pytest.approx(1 - math.log(3))
    assert float(found[1]) == -math.inf
