"""Masked models on shards: rows are tokens, and the bits are those of one process."""

from __future__ import annotations

import pytest

import itscale
from itscale.pools import Local
from tests.decoders.toy import toy, zeros
from tests.engine.setting import METHODS
from tests.pools.test_equal_bits import assert_same

pytestmark = pytest.mark.ray
STEERED = (
    "best-of-n",
    "smc, late",
    "nested, funnel",
    "svdd",
    "fkc",
    "twisted, adaptive",
    "funnel",
    "vasr-max",
    "beam, narrowing",
    "code",
    "rbf",
    "dts, tree",
    "gibbs, multinomial",
    "waste-free",
)


def run(method, pool):
    return itscale.sample(toy().model, reward=zeros, method=method, groups=3, seed=4, pool=pool)


def local(method):
    return run(method, Local(microbatch=8, bitwise=True))


@pytest.mark.shards(4)
@pytest.mark.parametrize("name", STEERED)
def test_methods_give_equal_bits_on_four_shards(name, pool):
    assert_same(run(METHODS[name], pool(4)), local(METHODS[name]))


@pytest.mark.parametrize("name", ["smc", "gibbs"])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_any_number_of_shards_gives_equal_bits(name, shards, pool):
    mine = run(METHODS[name], pool(shards))
    assert (mine.notes["pool"]["rows_moved"] > 0) == (shards > 1)
    assert_same(mine, local(METHODS[name]))


@pytest.mark.parametrize("shards", [2, 4])
def test_molecules_of_a_network_are_the_same(shards, pool):
    pytest.importorskip("rdkit")

    def molecules(where):
        return itscale.sample(
            itscale.load("molecules-tiny"), reward="qed", method="smc", n=6, steps=8, tilt=10.0, pool=where
        )

    mine, theirs = molecules(pool(shards)), molecules(Local(microbatch=8, bitwise=True))
    assert_same(mine, theirs)
    assert mine.texts == theirs.texts
