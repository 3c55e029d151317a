"""What a run may spend, and what it has spent."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits per group (one independent run: a prompt, a seed). A limit that is ``None`` does not bind.

    Attributes:
        nfe: looks at the target at one (particle, time), whatever the number of experts or guidance rows.
        model_rows: rows through networks; guidance costs two a look, and a gradient through the network
            two more for each.
        reward_calls: distinct samples scored while sampling. Held-out rewards are not charged.
        seconds: wall clock of the whole run. When it is over, the states are denoised as they stand and
            the result is flagged ``truncated``.

    Raises:
        ConfigError: if no limit is given, or one is not a positive number.
    """

    nfe: int | None = None
    model_rows: int | None = None
    reward_calls: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in asdict(self).items() if v is not None}
        if not given:
            raise ConfigError(
                "budget is empty: give nfe, model_rows, reward_calls or seconds, or leave the budget out"
            )
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigError(f"budget.{name} must be positive, got {value!r}")
            if name != "seconds" and value != int(value):
                raise ConfigError(f"budget.{name} must be a whole number, got {value!r}")


@dataclass(frozen=True)
class Spent:
    """What a run has cost. Counts are per group where they are lists, else for the whole run."""

    nfe: list[int]
    model_rows: list[int]
    reward_calls: list[int]
    decodes: list[int]
    padding_rows: int = 0
    backward_rows: int = 0
    network_calls: int = 0
    cached_rewards: int = 0
    held_out_calls: int = 0
    invalid_rewards: int = 0
    dead_states: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def forward_equivalents(self) -> int:
        """Rows through networks over all groups, a backward row counted as two forward ones."""
        return sum(self.model_rows) + self.padding_rows + 2 * self.backward_rows

    @classmethod
    def nothing(cls) -> Spent:
        return cls([], [], [], [])

    def __add__(self, other: Spent) -> Spent:
        """Add accounts of runs one after the other: lists are joined, counts added."""
        mine, theirs = asdict(self), asdict(other)
        total = {name: mine[name] + theirs[name] for name in mine}
        return Spent(**{**total, "peak_memory_bytes": max(self.peak_memory_bytes, other.peak_memory_bytes)})

    def total(self, what: str) -> int:
        """Sum a per-group count over groups."""
        return sum(getattr(self, what))

    def __str__(self) -> str:
        return (
            f"{self.total('nfe'):,} NFE ({self.total('model_rows'):,} rows), "
            f"{self.total('reward_calls'):,} reward calls, {self.seconds:.1f} s"
        )


_PER_GROUP = ("nfe", "model_rows", "reward_calls", "decodes")
_PER_RUN = tuple(f.name for f in fields(Spent) if f.name not in (*_PER_GROUP, "seconds", "peak_memory_bytes"))


@dataclass
class Ledger:
    """The running account of one run. The engine writes it; nobody else does."""

    groups: int
    budget: Budget | None = None
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.per_group = {k: torch.zeros(self.groups, dtype=torch.int64) for k in _PER_GROUP}
        self.per_run = dict.fromkeys(_PER_RUN, 0)

    def charge(self, **amounts: Int64[Tensor, " g"] | int) -> None:
        """Add to the account: per-group counts as (g,) tensors or one number for each group."""
        for name, amount in amounts.items():
            if name in self.per_group:
                self.per_group[name] += amount
            else:
                self.per_run[name] += int(amount)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def out_of_time(self) -> bool:
        limit = self.budget.seconds if self.budget else None
        return limit is not None and self.seconds >= limit

    def snapshot(self, counters: dict[str, int]) -> dict[str, Any]:
        """Return the account, with the workers' counters in it, as plain values."""
        per_run = {k: v + counters.get(k, 0) for k, v in self.per_run.items()}
        per_group = {k: v.clone() for k, v in self.per_group.items()}
        return {"per_group": per_group, "per_run": per_run, "seconds": self.seconds}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from an account: what was spent stays spent, seconds included."""
        self.per_group = {k: v.clone() for k, v in saved["per_group"].items()}
        self.per_run = dict(saved["per_run"])
        self.started = time.perf_counter() - saved["seconds"]

    def spent(self) -> Spent:
        counts: dict[str, Any] = {**{k: v.tolist() for k, v in self.per_group.items()}, **self.per_run}
        return Spent(**counts, seconds=self.seconds, peak_memory_bytes=peak_memory_bytes())


def peak_memory_bytes() -> int:
    """Peak memory of this process: of the CUDA device when one has been used, else resident memory."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
