"""What a Ray cluster costs beside the work: calls, gathers, blocks between workers, and a cell at the driver.

    python benchmarks/cluster.py [--address auto] [--workers 2]

Prints one JSON document, which experiments/simulate_cluster.py reads. Without an address it starts a Ray.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from itscale.pools.session import connect, disconnect
from itscale.runs import run
from itscale.runs.recorder import Recorder

REPEATS = 50


class Shard:
    """Answers, and hands over blocks."""

    def ping(self) -> None: ...

    def weights(self, count: int) -> np.ndarray:
        return np.zeros(count)

    def block(self, size: int) -> np.ndarray:
        return np.zeros(size, dtype=np.uint8)

    def take(self, block: np.ndarray) -> int:
        return int(block.copy()[0])


def median_seconds(act: Any, repeats: int = REPEATS) -> float:
    """Median time of an act, after two that are not counted."""
    times = []
    for i in range(repeats + 2):
        started = time.perf_counter()
        act()
        if i > 1:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def first_coordinate(samples: Any) -> Any:
    """A reward that costs nothing."""
    return samples[:, 0]


def seconds_per_cell(cells: int = 60) -> float:
    """What the driver takes for a cell beside computing it: events, rows, and files that are synced."""
    spent = 0.0

    def timed(act: Any) -> Any:
        def stand_in(*words: Any) -> None:
            nonlocal spent
            started = time.perf_counter()
            act(*words)
            spent += time.perf_counter() - started

        return stand_in

    kept = {name: getattr(Recorder, name) for name in ("started", "moved", "ended")}
    config = {
        "model": "gaussian-mixture",
        "reward": "benchmarks.cluster:first_coordinate",
        "method": {"name": "smc", "particles": 8},
        "run": {"steps": 20},
        "sweep": {"run.seed": list(range(cells))},
    }
    for name, act in kept.items():
        setattr(Recorder, name, timed(act))
    with tempfile.TemporaryDirectory() as folder:
        run(config, out=Path(folder) / "run", threads=1)
    for name, act in kept.items():
        setattr(Recorder, name, act)
    return spent / cells


def measure(address: str, workers: int) -> dict[str, float]:
    """Seconds of everything."""
    ray = connect(address, cpus=workers, gpus=0, object_store=200 * 2**20, resources={})
    shards = [ray.remote(Shard).options(num_cpus=0).remote() for _ in range(workers)]
    ray.get([shard.ping.remote() for shard in shards])
    a, b = shards[0], shards[-1]
    found = {
        "call": median_seconds(lambda: ray.get(a.ping.remote())),
        "gather": median_seconds(lambda: ray.get([s.weights.remote(32) for s in shards])),
        "gather_10k": median_seconds(lambda: ray.get([s.weights.remote(10_000) for s in shards])),
        "call_async": median_seconds(lambda: ray.get([a.ping.remote() for _ in range(500)]), 5) / 500,
    }
    for name, size in {"block_64k": 2**16, "block_1m": 2**20, "block_16m": 2**24}.items():
        found[name] = median_seconds(lambda size=size: ray.get(b.take.remote(a.block.remote(size))), 20)
    for shard in shards:
        ray.kill(shard)
    found["cell"] = seconds_per_cell() + found["call"]
    disconnect()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="local")
    parser.add_argument("--workers", type=int, default=2)
    words = parser.parse_args()
    print(json.dumps(measure(words.address, words.workers), indent=1))
