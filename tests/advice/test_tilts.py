"""Tilts from unguided rewards, against laws with closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from itscale.advice.tilts import ENOUGH, SHARPEST, divergence_ratio, reweighted, sharpest, tilt_for_gain

NORMAL = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
COIN = torch.tensor([-0.5] * 64 + [0.5] * 64, dtype=torch.float64)


def test_reweighted_coin_has_its_closed_form():
    found = reweighted(COIN, 1.5)
    p = 1 / (1 + math.exp(-1.5))
    assert found.gain == pytest.approx(p - 0.5, rel=1e-12)
    assert found.divergence == pytest.approx(
        math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p), rel=1e-12
    )
    assert found.ess == pytest.approx(64 / (p**2 + (1 - p) ** 2), rel=1e-12)


def test_divergence_of_a_normal_law_is_half_the_square_and_less_under_a_ceiling():
    # the grid's tails end at 4 sd: 1e-4 of the variance is missing, and more of what a tilt of 1 looks at
    assert divergence_ratio(NORMAL, 1.0) == pytest.approx(1.0, abs=0.01)
    assert divergence_ratio(COIN, 4.0) == pytest.approx(2 * reweighted(COIN, 4.0).divergence / 4.0, rel=1e-12)
    assert divergence_ratio(COIN, 8.0) < 0.1


def test_ratio_is_one_where_too_few_samples_count():
    few = NORMAL[::200]
    assert reweighted(few, 3.0).ess < ENOUGH
    assert divergence_ratio(few, 3.0) == 1.0
    assert divergence_ratio(few, 0.0) == 1.0


def test_tilt_for_a_gain_gives_that_gain():
    for gain in (0.1, 0.5, 1.0):  # a normal law moves by the tilt
        assert tilt_for_gain(NORMAL, gain) == pytest.approx(gain, abs=0.01)
    tilt = tilt_for_gain(COIN, 0.3)
    assert reweighted(COIN, tilt).gain == pytest.approx(0.3, rel=1e-9)
    assert tilt == pytest.approx(math.log(0.8 / 0.2), rel=1e-9)


def test_sharpest_tilt_is_where_ten_samples_count_or_none_is_lost():
    few = NORMAL[::100]
    assert reweighted(few, sharpest(few)).ess == pytest.approx(ENOUGH, rel=1e-6)
    assert tilt_for_gain(few, 100.0) == sharpest(few)
    assert sharpest(COIN) == pytest.approx(SHARPEST / float(COIN.std()))  # half of them stay, however sharp
