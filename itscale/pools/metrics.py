"""What a sharded pool did and what it cost, beside what the workers computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FULL = 0.7  # share of the shared memory above which a reader is told
WORTH = 20.0
"""A step's forward time as a multiple of the overhead, from which sharding loses less than 5 %."""
HINT, HINT_SECONDS = 0.1, 5.0
"""Share of the time beside computing, and length of a run, from which a reader is told what is faster."""
COUNTED = ("acts", "rows_moved", "rows_taken", "bytes_moved", "recoveries", "acts_repeated")


@dataclass
class Metrics:
    """Counts and seconds of one run.

    Attributes:
        store: bytes of shared memory of all machines.
        wall: seconds between submitting acts and having their answers.
        busy: of these, seconds in which the slowest shard of each act computed.
        rows_moved: rows that changed their shard.
        rows_taken: rows of all gathers.
        bytes_moved: what went from shard to shard.
        largest_act: bytes that were under way at once, at most.
        acts_repeated: during recoveries.
        losses: why shards were lost.
        no_lines: why shards have no lines, if they have none.
    """

    shards: int
    store: float = 0.0
    wall: float = 0.0
    busy: float = 0.0
    acts: int = 0
    rows_moved: int = 0
    rows_taken: int = 0
    bytes_moved: int = 0
    largest_act: int = 0
    recoveries: int = 0
    acts_repeated: int = 0
    losses: list[str] = field(default_factory=list)
    no_lines: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    _before: dict[str, float] = field(default_factory=dict)

    def acted(self, verb: str, wall: float, answers: Sequence[Any]) -> None:
        """Count an act that has been answered."""
        self.acts += 1
        self.wall += wall
        self.seconds[verb] = self.seconds.get(verb, 0.0) + wall
        self.busy += max((answer.seconds for answer in answers), default=0.0)
        self.received(sum(answer.received for answer in answers))

    def moved(self, rows: int, taken: int) -> None:
        """Count rows of a gather, and those that change their shard."""
        self.rows_moved += rows
        self.rows_taken += taken

    def received(self, size: int) -> None:
        """Count bytes that a shard got from others."""
        self.bytes_moved += size

    def in_flight(self, size: int) -> None:
        """Count bytes that an act puts into shared memory."""
        self.largest_act = max(self.largest_act, size)

    def recovered(self, why: str) -> None:
        """Count a recovery."""
        self.recoveries += 1
        self.losses.append(why)

    def repeated(self, acts: int) -> None:
        """Count acts that a recovery has repeated."""
        self.acts_repeated += acts

    @property
    def overhead(self) -> float:
        """Share of the time in which no shard computed for the run."""
        return max(0.0, 1 - self.busy / self.wall) if self.wall else 0.0

    def since_last(self) -> dict[str, Any]:
        """What was counted since this was called last: a step of the method."""
        now = {name: getattr(self, name) for name in (*COUNTED, "wall", "busy")}
        facts = {name: count - self._before.get(name, 0) for name, count in now.items()}
        self._before, self.steps = now, self.steps + 1
        wall, busy = facts.pop("wall"), facts.pop("busy")
        facts["seconds"], facts["computing"] = round(wall, 5), round(busy, 5)
        facts["overhead_ratio"] = round(max(0.0, 1 - busy / wall), 4) if wall else 0.0
        return facts

    def summary(self) -> dict[str, Any]:
        """Plain values, for results and tables."""
        return {
            "shards": self.shards,
            "acts": self.acts,
            "seconds": round(self.wall, 4),
            "computing": round(self.busy, 4),
            "overhead_ratio": round(self.overhead, 4),
            "rows_moved": self.rows_moved,
            "rows_taken": self.rows_taken,
            "bytes_moved": self.bytes_moved,
            "largest_act": self.largest_act,
            "recoveries": self.recoveries,
            "acts_repeated": self.acts_repeated,
            "losses": list(self.losses),
        }

    def warnings(self) -> list[str]:
        """What a reader of the results should know."""
        found = []
        if self.recoveries:
            found.append(
                f"shards were lost {self.recoveries} times and the run went on from its last snapshot; "
                f"results are those of an undisturbed run. The last reason: {self.losses[-1]}"
            )
        if self.no_lines:
            found.append(
                f"shards have no direct connections to the driver ({self.no_lines}): every step goes through "
                "Ray's calls, which take milliseconds more; let the driver reach any port of their machines"
            )
        if self.overhead > HINT and self.wall > HINT_SECONDS and self.steps:
            beside = (self.wall - self.busy) / self.steps
            found.append(
                f"{100 * self.overhead:.0f} % of the time no shard computed: {1000 * beside:.0f} ms a step. "
                f"Shards are worth it where a step computes for {WORTH * beside:.2g} s or more; below, "
                "pool.name=local, or whole cells for workers (itscale sweep --pool), take less"
            )
        if self.store and self.largest_act > FULL * self.store:
            found.append(
                f"{self.largest_act / 1e6:.0f} MB were exchanged at once, and Ray's shared memory has "
                f"{self.store / 1e6:.0f} MB: what does not fit goes over the disk; raise pool.object_store"
            )
        return found
