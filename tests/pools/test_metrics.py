"""What a sharded run says of its cost: figures by step, and a hint where sharding does not pay."""

from __future__ import annotations

from collections import namedtuple

import pytest

from itscale.pools.metrics import WORTH, Metrics

Answered = namedtuple("Answered", "seconds received")


def step(metrics, wall, busy, moved=0):
    metrics.moved(moved, 8)
    metrics.acted("look", wall, [Answered(busy, 100), Answered(busy / 2, 50)])
    return metrics.since_last()


def test_steps_add_up_to_the_run():
    metrics = Metrics(2)
    rows = [step(metrics, 2.0, 1.5, moved=3), step(metrics, 1.0, 0.5), metrics.since_last()]
    assert [row["overhead_ratio"] for row in rows] == [0.25, 0.5, 0.0]
    assert [row["bytes_moved"] for row in rows] == [150, 150, 0]
    whole = metrics.summary()
    for name in ("acts", "seconds", "computing", "rows_moved", "rows_taken", "bytes_moved"):
        assert sum(row[name] for row in rows) == whole[name]


@pytest.mark.parametrize(
    ("wall", "busy", "is_told"), [(6.0, 3.0, True), (6.0, 5.7, False), (1.0, 0.1, False)]
)
def test_a_run_that_sharding_slows_down_is_told_from_where_on_it_pays(wall, busy, is_told):
    metrics = Metrics(2)
    step(metrics, wall, busy)
    found = [warning for warning in metrics.warnings() if "no shard computed" in warning]
    assert bool(found) == is_told
    if is_told:
        assert f"{WORTH * (wall - busy):.2g} s or more" in found[0]
        assert "itscale sweep --pool" in found[0]
