"""The simulation of large clusters agrees with what can be said without it."""

import dataclasses

import pytest
from itscale.experiments.simulate_cluster import Costs, cells, sharded, spill

FREE = Costs(
    step=0, shard=0, call=0, block=0, cell=0, write=0, load=0, scatter=0, cell_scatter=0, bandwidth=1e30
)


def test_nothing_is_lost_where_nothing_costs():
    assert sharded(FREE, 64, 1.0, 1.0) == pytest.approx(1)
    assert cells(FREE, 64, 1.0) == pytest.approx(1)


def test_a_driver_that_is_called_for_every_shard_costs_its_calls():
    costs = dataclasses.replace(FREE, step=0.011, shard=0.001, call=0.001)
    assert sharded(costs, 100, 1.0, 0.0) == pytest.approx(1 / 1.11)
    assert sharded(costs, 100, 1.0, 1.0) == pytest.approx(1 / 1.21)


def test_more_cells_than_the_driver_can_write_end_at_its_pace():
    costs = dataclasses.replace(FREE, cell=0.1)
    assert cells(costs, 100, 1.0, per_gpu=200) == pytest.approx(1.0 / (100 * 0.1), rel=0.01)


def test_waits_for_the_disk_are_shared_by_cells_that_end_meanwhile():
    costs = dataclasses.replace(FREE, write=0.1)
    assert cells(costs, 100, 1.0, per_gpu=200) > 0.9
    assert cells(costs, 1, 1.0, per_gpu=200) == pytest.approx(1.0, abs=0.01)


def test_start_is_shared_by_all_cells_of_a_worker():
    costs = dataclasses.replace(FREE, load=50.0)
    assert cells(costs, 8, 1.0, per_gpu=50) == pytest.approx(0.5)


def test_one_shard_spills_nothing_and_more_spill_more():
    assert spill(32, 1, 1.0) == 0
    assert spill(32, 4, 1.0) > spill(32, 2, 1.0) > 0
