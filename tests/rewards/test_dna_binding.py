"""Binding landscapes: measured values, both strands, standardisation, windows, bad sequences."""

from __future__ import annotations

import pytest
import torch
from itscale.rewards.dna_binding import FACTORS, dna_tokens, landscape, standardised

from itscale.errors import ConfigError
from itscale.rewards import DnaBinding
from itscale.scoring import as_reward


def at(texts):
    return (dna_tokens(texts) * 4 ** torch.arange(7, -1, -1)).sum(dim=1)


def test_scores_are_those_of_the_tables():
    # E-scores printed in the published files; stored to 8e-6
    measured = {"AAAAAAAA": 0.26751, "AAAAAAAC": 0.10488, "TTTTTTTT": 0.26751, "GTTTTTTT": 0.10488}
    found = landscape("EGR2")[at(list(measured))]
    assert found.tolist() == pytest.approx(list(measured.values()), abs=1e-5)


@pytest.mark.parametrize(
    ("factor", "site"),
    [("EGR2", "GCGGGGGC"), ("FOXC1", "GTAAACAA"), ("PAX3", "AATCGATT"), ("HOXD13", "CTCGTAAA")],
)
def test_known_sites_bind(factor, site):
    assert landscape(factor)[at([site])].item() > 0.45


@pytest.mark.parametrize("factor", FACTORS)
def test_strands_are_alike_and_scores_are_standardised(factor):
    z = standardised(factor)
    assert z.mean().abs() < 1e-12
    assert (z.square().mean() - 1).abs() < 1e-12
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 4, (500, 8), generator=generator)
    reward = DnaBinding(factor)
    assert torch.equal(reward(tokens), reward((3 - tokens).flip(1)))


def test_texts_score_as_tokens_and_longer_ones_as_their_best_window():
    reward = as_reward("dna-binding(factor='pax3')")
    texts = ["AATCGATT", "ACGTACGT"]
    assert torch.equal(reward.score(texts).values, reward.score(dna_tokens(texts)).values)
    long = "GG" + texts[0].lower() + "C"
    windows = [long[i : i + 8] for i in range(4)]
    best = reward.score(windows).values.max()
    mixed = reward.score([long, texts[1]]).values
    assert mixed[0] == best
    assert mixed[1] == reward.score(texts).values[1]


@pytest.mark.parametrize(
    ("samples", "named"),
    [(["AANCGATT"], "'N'"), (["ACGT"], "at least 8"), (torch.full((1, 8), 4), "tokens 4"), ([8.0], "8.0")],
)
def test_bad_sequences_are_named(samples, named):
    with pytest.raises(ConfigError, match=named):
        DnaBinding()(samples)


def test_unknown_factors_get_a_hint():
    with pytest.raises(ConfigError, match="PAX3"):
        as_reward("dna-binding(factor='PAX4')")
