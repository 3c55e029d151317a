"""How far a run scales: efficiency of up to 1,000 GPUs from measured costs, without a cluster.

    python -m itscale.experiments.simulate_cluster --plot scaling.png [--costs costs.json]

Two ways are simulated. Sharded particles: all GPUs compute a step, the driver gathers weights, and a
resampling moves what does not fit. Whole cells: every GPU loads the model once, then asks the driver for
cells until none is left. Every time is drawn with scatter, so that waiting for the slowest is in it.
Assumptions are fields of ``Costs``.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes; the defaults were measured by benchmarks/cluster.py, see docs/cluster.md.

    Attributes:
        step: of the driver with one shard: its message, the answer, and what is done with it.
        shard: of the driver, for one more shard of a step.
        call: of the driver to Ray, for a worker that is given a cell or hands particles over.
        block: to hand a small block from worker to worker.
        bandwidth: bytes a second between machines, of one worker.
        cell: of the driver, to write down what a cell came to, among others that ended at the same time.
        write: of the driver, to wait for the disk, for all cells that have ended since it last did.
        load: of a worker, to start and load the model.
        scatter: relative standard deviation of a forward.
        cell_scatter: the same of a cell.
        state: bytes of a particle.
        cv: of the weights at a resampling; 1 is half the particles' worth.
    """

    step: float = 1.9e-3
    shard: float = 3.0e-4
    call: float = 1.4e-4
    block: float = 2.0e-3
    bandwidth: float = 1.0e9
    cell: float = 2.4e-3
    write: float = 2.6e-2
    load: float = 60.0
    scatter: float = 0.02
    cell_scatter: float = 0.1
    state: float = 2.0**17
    cv: float = 1.0

    @classmethod
    def measured(cls, found: Mapping[str, float]) -> Costs:
        """Take what benchmarks/cluster.py found; the rest are assumptions."""
        return cls(
            step=found["step"],
            shard=found["step_more"],
            call=found["call_async"],
            block=found["block_64k"],
            bandwidth=2**24 / max(found["block_16m"] - found["block_64k"], 1e-4),
            cell=found["cell"],
            write=found["write"],
        )


def spill(particles: int, shards: int, cv: float) -> float:
    """Expected particles that change their shard in a systematic resampling of exchangeable weights."""
    return 0.4 * cv * np.sqrt(particles * shards * (1 - 1 / shards))


def sharded(
    costs: Costs, gpus: int, forward: float, rate: float, particles: int = 8, steps: int = 200, seed: int = 0
) -> float:
    """Return the share of GPU time that is forward, for particles sharded over GPUs.

    Args:
        costs: see there.
        gpus: one shard each.
        forward: mean seconds of a step's forward of one shard.
        rate: share of steps that resample.
        particles: of each shard.
        steps: to simulate.
        seed: of the scatter.
    """
    draw = np.random.default_rng(seed)
    times = forward * np.maximum(1 + costs.scatter * draw.standard_normal((steps, gpus)), 0.1)
    wall = times.max(axis=1) + costs.step + costs.shard * (gpus - 1)
    if gpus > 1:
        moved = spill(particles * gpus, gpus, costs.cv)
        per_shard = draw.poisson(moved / gpus, (steps, gpus)).max(axis=1)
        migration = costs.call * gpus + per_shard * (costs.block + costs.state / costs.bandwidth)
        wall = wall + np.where(draw.random(steps) < rate, migration, 0.0)
    return float(times.sum() / (gpus * wall.sum()))


def cells(costs: Costs, gpus: int, seconds: float, per_gpu: int = 50, seed: int = 0) -> float:
    """Return the share of GPU time that computes whole cells; the start and the last cells are in it."""
    draw = np.random.default_rng(seed)
    lengths = seconds * np.maximum(1 + costs.cell_scatter * draw.standard_normal(per_gpu * gpus), 0.1)
    free = [costs.load] * gpus  # when each worker has nothing left to do
    waiting = deque(lengths)
    now = 0.0
    while waiting:
        now = max(now, free[0])
        heard = 0
        while waiting and free[0] <= now:  # workers have their next cell before results are written
            heapq.heapreplace(free, now + costs.call + waiting.popleft())
            heard += 1
        now += costs.write + costs.cell * heard
    end = max(max(free), now)
    return float(lengths.sum() / (gpus * end))


def table(costs: Costs) -> str:
    """The figures of docs/cluster.md."""
    lines = [
        "| GPUs | sharded, forward 0.1 s | 1 s | 5 s | cells of 10 s | 60 s | 600 s |",
        "|" + " --- |" * 7,
    ]
    for gpus in (1, 8, 64, 256, 1000):
        shares = [sharded(costs, gpus, forward, 0.25) for forward in (0.1, 1.0, 5.0)]
        shares += [cells(costs, gpus, seconds) for seconds in (10.0, 60.0, 600.0)]
        lines.append(f"| {gpus} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return "\n".join(lines)


def plot(costs: Costs, path: Path) -> None:
    """Draw efficiency against forward time, resampling rate, particles per GPU, and length of a cell."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).flatten()
    sizes = (8, 64, 256, 1000)
    forwards, rates = np.geomspace(0.02, 10, 25), np.linspace(0, 1, 11)
    counts, lengths = (1, 2, 4, 8, 16, 32, 64), np.geomspace(1, 1000, 16)
    for gpus in sizes:
        label = f"{gpus} GPUs"
        axes[0].plot(forwards, [sharded(costs, gpus, f, 0.25) for f in forwards], label=label)
        axes[1].plot(rates, [sharded(costs, gpus, 1.0, r) for r in rates], label=label)
        axes[2].plot(counts, [sharded(costs, gpus, 0.1 * n, 0.25, n) for n in counts], label=label)
        axes[3].plot(lengths, [cells(costs, gpus, s) for s in lengths], label=label)
    axes[0].set(
        title="sharded: a step's forward", xlabel="seconds of a forward (a quarter resample)", xscale="log"
    )
    axes[1].set(title="sharded: how often is resampled", xlabel="share of steps (forward 1 s)")
    axes[2].set(title="sharded: particles of a GPU", xlabel="particles, 0.1 s each", xscale="log")
    axes[3].set(title="whole cells", xlabel="seconds of a cell (50 cells a GPU)", xscale="log")
    for axis in axes:
        axis.set(ylabel="share of GPU time that computes", ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--costs", type=Path, help="what benchmarks/cluster.py printed on your cluster")
    parser.add_argument("--plot", type=Path)
    words = parser.parse_args()
    costs = Costs.measured(json.loads(words.costs.read_text())) if words.costs else Costs()
    print(json.dumps(dataclasses.asdict(costs)))
    print(table(costs))
    if words.plot:
        plot(costs, words.plot)


if __name__ == "__main__":
    main()
