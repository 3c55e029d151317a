"""Rows move to other shards only where they must: as many as the bound says, and no fewer can."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itscale.noise import Address, Noise
from itscale.particles import SCHEMES, get_scheme, resample
from itscale.pools.placement import capacities, contiguous, place_children, position_in_shard


def ancestors(scheme: str, n: int, sharpness: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    log_weights = torch.from_numpy(sharpness * generator.standard_normal((1, n)))
    zero = torch.zeros(1, dtype=torch.int64)
    u = Noise(seed).uniform(2, Address(zero, zero, zero, zero), get_scheme(scheme).uniforms(n, n))
    return resample(log_weights, u, scheme).ancestors[0].numpy()


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("shards", [2, 3, 8])
def test_as_many_rows_move_as_shards_have_too_many(scheme, shards):
    owner = contiguous(37, shards)
    for seed in range(60):  # placements float: each starts from where the last one left the rows
        parent = ancestors(scheme, 37, 0.3 * (1 + seed % 7), seed)
        home = owner[parent]
        offspring = np.bincount(home, minlength=shards)
        room = capacities(37, shards, offspring)
        owner = place_children(home, parent, shards)
        assert (owner != home).sum() == np.maximum(0, offspring - room).sum()
        assert (np.bincount(owner, minlength=shards) == room).all()
        assert room.sum() == 37
        assert room.max() - room.min() <= 1


def test_no_placement_moves_fewer():
    """All 3^6 placements of six children on three shards with two places each."""
    generator = np.random.default_rng(0)
    every = np.stack(np.meshgrid(*[np.arange(3)] * 6, indexing="ij"), -1).reshape(-1, 6)
    fits = (np.stack([(every == s).sum(1) for s in range(3)], 1) == 2).all(1)
    every = every[fits]
    for _ in range(50):
        parent = generator.integers(0, 6, 6)
        home = contiguous(6, 3)[parent]
        fewest = (every != home).sum(1).min()
        assert (place_children(home, parent, 3) != home).sum() == fewest


def test_survivors_stay_while_copies_can_go():
    parent = np.array([0, 1, 2, 2, 2, 2, 6, 7])  # the first shard is to hold four of six
    owner = place_children(contiguous(8, 2)[parent], parent, 2)
    assert (owner[[0, 1, 2]] == 0).all()
    assert (owner[[3, 4, 5]] == 1).sum() == 2


def test_the_largest_family_leaves_first_so_that_one_copy_serves_several():
    parent = np.array([0, 0, 1, 1, 1, 1, 6, 7])
    owner = place_children(contiguous(8, 2)[parent], parent, 2)
    assert set(parent[(owner == 1) & (parent < 4)]) == {1}


def test_neighbours_on_the_same_machine_are_preferred():
    parent = np.array([0, 0, 0, 0, 4, 4, 6, 6])
    home = np.array([0, 0, 0, 0, 1, 1, 2, 3])  # shard 0 has too many, 2 and 3 have too few
    sites = np.array([0, 0, 1, 0])
    owner = place_children(home, parent, 4, sites)
    assert (owner[:4] == 3).sum() == 1
    assert (owner[:4] == 2).sum() == 1
    alone = place_children(home[[0, 1, 2, 4, 5, 6]], parent[[0, 1, 2, 4, 5, 6]], 4, sites)
    assert (alone[:3] == 3).sum() == 1  # one has to go, and the near one is free


def test_the_number_of_rows_may_change():
    parent = np.array([0, 3, 5])
    owner = place_children(contiguous(8, 4)[parent], parent, 4)
    assert (np.bincount(owner, minlength=4) <= 1).all()
    assert (owner == contiguous(8, 4)[parent]).all()
    many = np.arange(8).repeat(3)
    assert (place_children(contiguous(8, 4)[many], many, 4) == contiguous(8, 4)[many]).all()


def test_positions_count_rows_of_the_same_shard():
    assert position_in_shard(np.array([1, 0, 1, 1, 0])).tolist() == [0, 0, 1, 2, 1]
    assert position_in_shard(np.zeros(0, dtype=np.int64)).tolist() == []


def test_spill_follows_its_law():
    """Systematic resampling of exchangeable weights moves about 0.4 CV sqrt(N S (1 - 1/S)) rows."""
    n, shards, moved, predicted = 256, 4, [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        weights = np.exp(generator.standard_normal(n))
        cv = weights.std() / weights.mean()
        parent = ancestors("systematic", n, 1.0, seed)
        home = contiguous(n, shards)[parent]
        moved.append((place_children(home, parent, shards) != home).sum())
        predicted.append(0.4 * cv * np.sqrt(n * shards * (1 - 1 / shards)))
    # the constant is one of many shards' sums: a mean absolute deviation over two, 0.399
    assert np.mean(moved) == pytest.approx(np.mean(predicted), rel=0.15)
