"""One Ray for all tests of pools: it starts at the first one that needs it and is gone at the end."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from itscale.pools import Ray, session
from tests.engine.setting import Network, make_engine, smooth, total, wrapped


@pytest.fixture(scope="session")
def own_ray():
    """End the Ray that pools have started, and see that none of its processes is left."""
    yield
    folder = None if session._own is None else str(session._own.folder)
    session.disconnect()
    if folder is not None:
        deadline = time.monotonic() + 30
        while left := processes_with(folder):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        assert not os.path.exists(folder)


@pytest.fixture
def pool(own_ray):
    """Make small pools: one thread a shard, and no cores claimed, for the machine has few."""

    def make(shards: int = 2, **settings) -> Ray:
        return Ray(shards=shards, **{**DEFAULTS, **settings})

    return make


@pytest.fixture
def engine(pool):
    """An engine on two shards, which take no snapshots."""
    made = make_engine(wrapped(Network()), smooth(total), pool=pool(2, snapshot_every=1000))
    yield made
    made.pool.close()


@pytest.fixture(params=["earlier epoch", "doubled", "too early"])
def out_of_turn(request, engine):
    """Particles, their states, and an epoch and a number that the engine's first shard must refuse next."""
    p = engine.look(engine.start(6))
    states = engine.pool.home(p.rows).x
    epoch, number = engine.pool.crew.epoch, engine.pool._log._numbers[0]
    stamps = {
        "earlier epoch": (epoch - 1, number + 1),
        "doubled": (epoch, number),
        "too early": (epoch, number + 2),
    }
    return p, states, stamps[request.param]


DEFAULTS = {"cpus": 0, "threads": 1, "microbatch": 8, "bitwise": True, "object_store": 80 * 2**20}


def processes_with(text: str) -> list[str]:
    """Command lines of processes that mention a text."""
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in lines.splitlines() if text in line and "ps -eo" not in line]
