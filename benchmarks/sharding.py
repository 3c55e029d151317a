"""What sharding particles costs and gains beside one process: steps with and without resampling, and scaling.

    python benchmarks/sharding.py [--steps 24]

Prints one JSON document of ratios, each with its two times in ms a step. Forwards that sleep measure what the
pool adds whatever the cores; busy ones need a core for every shard. Each ratio is of runs in turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

import itscale
from itscale.engine import Step
from itscale.methods import SMC
from itscale.pools import Local, Ray, session

PARTICLES = 32
NUMBERS = 16_384
"""float32 of a particle: 64 KiB."""


TURNS = 4


class Slow(torch.nn.Module):
    """A network that takes a time per call and one per row, asleep or at work."""

    def __init__(
        self, call: float = 0.0, row: float = 0.0, how: Literal["asleep", "busy"] = "asleep"
    ) -> None:
        super().__init__()
        self.call, self.row, self.how = call, row, how

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seconds = self.call + self.row * len(x)
        if self.how == "asleep":
            time.sleep(seconds)
        else:
            end = time.thread_time() + seconds  # of a core, however many want it
            while time.thread_time() < end:
                pass
        return -x


def first_number(samples: torch.Tensor) -> torch.Tensor:
    """A reward that costs nothing and differs from particle to particle."""
    return samples[:, 0]


@dataclass(frozen=True)
class Setting:
    """A network, a method, and how many shards; the method says how often it resamples."""

    network: Slow
    shards: int
    method: SMC

    def run(self, steps: int, pool: Any, on_step: Callable[[Step], Any]) -> None:
        """Sample, and nothing else."""
        itscale.sample(
            itscale.models.wrap(
                self.network, predicts="velocity", interpolant="linear", event_shape=(NUMBERS,)
            ),
            reward=first_number,
            method=self.method,
            steps=steps,
            seed=0,
            pool=pool,
            on_step=on_step,
        )

    def milliseconds(self, steps: int, pool: Any) -> list[float]:
        """Times of the steps, but for the first two, in which connections are made."""
        ends = []
        self.run(steps + 2, pool, lambda step: ends.append(time.perf_counter()))
        return [1000 * (b - a) for a, b in itertools.pairwise(ends[1:])]

    def compare(self, steps: int) -> dict[str, list[float]]:
        """Steps of one process, and of the shards, in turns."""
        ray = Ray(shards=self.shards, cpus=0, threads=1, microbatch=PARTICLES)
        self.milliseconds(2, ray)  # shards start, and have the network
        times: dict[str, list[float]] = {"local": [], "sharded": []}
        for _ in range(TURNS):
            times["local"] += self.milliseconds(steps // TURNS, Local(microbatch=PARTICLES))
            times["sharded"] += self.milliseconds(steps // TURNS, ray)
        return times


NEVER, FOURTH, EVERY = (
    SMC(particles=PARTICLES, ess_threshold=0.0),
    SMC(particles=PARTICLES, ess_threshold=1.0, score_every=4),
    SMC(particles=PARTICLES, ess_threshold=1.0),
)
OVERHEAD = {
    "200 ms asleep, 2 shards, resampling every 4th step": Setting(Slow(0.2), 2, FOURTH),
    "200 ms asleep, 2 shards, resampling every step": Setting(Slow(0.2), 2, EVERY),
    "200 ms asleep, 4 shards, resampling every step": Setting(Slow(0.2), 4, EVERY),
}
ADDED = {
    "no forward, 2 shards, no resampling": Setting(Slow(), 2, NEVER),
    "no forward, 4 shards, no resampling": Setting(Slow(), 4, NEVER),
}
SCALING = {
    "busy, 2 shards of 25 ms": Setting(Slow(row=0.025 / 16, how="busy"), 2, NEVER),
    "busy, 2 shards of 100 ms": Setting(Slow(row=0.1 / 16, how="busy"), 2, NEVER),
    "asleep, 4 shards of 50 ms": Setting(Slow(row=0.05 / 8), 4, NEVER),
    "asleep, 4 shards of 250 ms": Setting(Slow(row=0.25 / 8), 4, NEVER),
}


def recovery(number: signal.Signals, deadline: float) -> float:
    """Seconds from the loss of a shard to the end of the next step, in a run of 12 steps of 20 ms."""
    setting = Setting(Slow(0.02), 2, EVERY)
    ends: list[float] = []

    def on_step(step: Step) -> None:
        ends.append(time.perf_counter())
        if step.level == 6:
            rows: Any = step.particles.rows
            os.kill(rows.pool.crew.pids[1], number)

    ray = Ray(shards=2, cpus=0, threads=1, microbatch=PARTICLES, deadline=deadline, first_deadline=deadline)
    setting.run(12, ray, on_step)
    return ends[6] - ends[5]


def measure(steps: int) -> dict[str, dict[str, float]]:
    """Ratios and times of every setting."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    for name, setting in {**OVERHEAD, **ADDED, **SCALING}.items():
        times = setting.compare(steps)
        # steps that resample and steps that do not are of two kinds: their mean counts, and not their median
        kind = statistics.fmean if setting.method is FOURTH else statistics.median
        local, sharded = kind(times["local"]), kind(times["sharded"])
        ratio = {"ms added": sharded - local} if name in ADDED else {"overhead": sharded / local - 1}
        if name in SCALING:
            ratio = {"efficiency": local / (sharded * setting.shards)}
        found[name] = {**ratio, "local": local, "sharded": sharded}
    found["recovery, seconds"] = {
        "a shard is killed": recovery(signal.SIGKILL, 30.0),
        "a shard hangs, with a deadline of 3 s": recovery(signal.SIGSTOP, 3.0),
    }
    session.disconnect()
    return {name: {key: round(value, 3) for key, value in row.items()} for name, row in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24)
    print(json.dumps(measure(parser.parse_args().steps), indent=1))
