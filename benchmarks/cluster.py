"""What a Ray cluster costs beside the work: calls, gathers, blocks, steps of shards, a cell at the driver.

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

from itscale.pools import Ray
from itscale.pools.measuring import measure_overhead
from itscale.pools.session import connect, disconnect
from itscale.runs import CellDone, run
from itscale.runs.cluster import Cluster
from itscale.runs.recorder import Recorder

REPEATS = 50
MANY = 32
"""Cells that end while the driver writes down those before."""


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


def pause(samples: Any) -> Any:
    """The same, after 20 ms."""
    time.sleep(0.02)
    return samples[:, 0]


def seconds_to_write(size: int, batches: int) -> float:
    """What the driver takes to write down cells that end together: moves, rows, and files that are synced."""
    times: list[float] = []
    moves: list[Any] = []
    ends: list[Any] = []
    kept = Recorder.moved, Recorder.ended

    def ended(recorder: Recorder, *more: Any) -> None:
        ends.extend(more)
        if len(ends) == size:
            started = time.perf_counter()
            kept[0](recorder, *moves)
            kept[1](recorder, *ends)
            times.append(time.perf_counter() - started)
            moves.clear()
            ends.clear()

    config = {
        "model": "gaussian-mixture",
        "reward": f"{Path(__file__).resolve()}:first_coordinate",
        "method": {"name": "smc", "particles": 8},
        "run": {"steps": 20},
        "sweep": {"run.seed": list(range(size * batches))},
    }
    Recorder.moved, Recorder.ended = (lambda recorder, *more: moves.extend(more)), ended  # type: ignore
    try:
        with tempfile.TemporaryDirectory() as folder:
            run(config, out=Path(folder) / "run", threads=1)
    finally:
        Recorder.moved, Recorder.ended = kept
    return statistics.median(times)


def cells_per_second(workers: int = 4, cells: int = 300) -> float:
    """How fast workers of the present Ray end cells of 20 ms, the first fifth left out."""
    ends = []
    config = {
        "model": "gaussian-mixture",
        "reward": f"{Path(__file__).resolve()}:pause",
        "method": "unguided",
        "run": {"steps": 2},
        "sweep": {"run.seed": list(range(cells))},
    }

    def listen(event: Any) -> None:
        if isinstance(event, CellDone):
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(config, out=out, workers=workers, threads=1, cluster=Cluster(), on_event=listen)
    first = cells // 5
    return (cells - 1 - first) / (ends[-1] - ends[first])


def measure(address: str, workers: int) -> dict[str, float]:
    """Seconds of everything, and cells of 20 ms a second by four workers."""
    ray = connect(address, cpus=max(4, workers), gpus=0, object_store=200 * 2**20, resources={})
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
    one, all_of_them = (
        measure_overhead(Ray(address, shards=shards, cpus=0, gpus=0, threads=1), REPEATS).step / 1000
        for shards in (1, workers)
    )
    found |= {"step": one, "step_more": max(0.0, all_of_them - one) / max(1, workers - 1)}
    one, many = seconds_to_write(1, 20), seconds_to_write(MANY, 3)
    found["cell"] = (many - one) / (MANY - 1)
    found["write"] = one - found["cell"]
    found["cells_per_second"] = cells_per_second()
    disconnect()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="local")
    parser.add_argument("--workers", type=int, default=2)
    words = parser.parse_args()
    print(json.dumps(measure(words.address, words.workers), indent=1))
