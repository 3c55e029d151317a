"""Processes with a time-out: order, failures of one item, deaths, and a start that fails."""

from __future__ import annotations

import os
import pickle
import time

import pytest

from itscale.errors import ConfigError, ItscaleError
from itscale.task_pool import TaskPool

pytestmark = pytest.mark.slow


def worked(item):
    """An item's square, or one of the ways in which an item can fail."""
    if item == "hang":
        time.sleep(600)
    if item == "die":
        os._exit(7)
    if item == "raise":
        raise ValueError("no")
    return item * item


class Unloadable:
    """It fails where it is unpickled."""

    def __reduce__(self):
        return os._exit, (5,)


def test_failures_cost_their_own_item():
    with TaskPool(worked, workers=2, seconds=2.0) as pool:
        outcomes = pool.map([3, "die", 4, "hang", "raise", 5, "die", 6])
        again = pool.map([7])
    assert [o.value for o in outcomes] == [9, None, 16, None, None, 25, None, 36]
    assert [bool(o.reason) for o in outcomes] == [False, True, False, True, True, False, True, False]
    assert "exit code 7" in outcomes[1].reason
    assert "longer than 2 seconds" in outcomes[3].reason
    assert outcomes[4].reason == "ValueError: no"
    assert again[0].value == 49


def test_a_process_that_died_between_items_is_replaced():
    with TaskPool(worked, workers=1, seconds=60.0) as pool:
        pool.map([1])
        pool._alive[0].process.kill()
        pool._alive[0].process.join()
        assert pool.map([2, 3])[-1].value == 9
        assert pool.map([]) == []


def test_a_start_that_fails_is_said():
    with TaskPool(Unloadable(), workers=1) as pool, pytest.raises(ItscaleError, match="exit code 5"):
        pool.map([1])


def test_a_pool_travels_without_its_processes():
    with TaskPool(worked, workers=1) as pool:
        pool.map([1])
        other = pickle.loads(pickle.dumps(pool))
    assert other.workers == 1
    assert other._alive == []


@pytest.mark.parametrize(("workers", "seconds"), [(0, 1.0), (True, 1.0), (1.5, 1.0), (1, 0.0), (1, -1.0)])
def test_numbers_that_make_no_sense_are_refused(workers, seconds):
    with pytest.raises(ConfigError):
        TaskPool(worked, workers=workers, seconds=seconds)
