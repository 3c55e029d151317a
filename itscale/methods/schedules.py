"""How many particles there are at each level: more where they count, with the same number of looks in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from itscale.errors import ConfigError, unknown_name
from itscale.methods.rollover import Saving

FEWEST = 4  # particles at any level of a schedule


@dataclass(frozen=True)
class Line:
    """Relative numbers on a line from the first level to the last; ``Line(1.6, 0.4)`` is the funnel."""

    first: float
    last: float

    def __post_init__(self) -> None:
        if not (self.first > 0 and self.last > 0):
            raise ConfigError(f"a schedule needs relative numbers of particles > 0, got {self!r}")

    def __call__(self, steps: int) -> tuple[float, ...]:
        rise = (self.last - self.first) / max(1, steps - 1)
        return tuple(self.first + rise * k for k in range(steps))


@dataclass(frozen=True)
class Listed:
    """Relative numbers given one by one, for the levels of one grid."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or not all(v > 0 for v in self.values):
            raise ConfigError(f"schedule must hold relative numbers of particles > 0, got {self.values!r}")

    def __call__(self, steps: int) -> tuple[float, ...]:
        if len(self.values) != steps:
            raise ConfigError(f"schedule has {len(self.values)} entries for {steps} steps; give one each")
        return self.values


SCHEDULES: dict[str, Line | Saving | None] = {
    "flat": None,
    "funnel": Line(1.6, 0.4),
    "late": Line(0.4, 1.6),
    "rollover": Saving(),
}
"""``"funnel"`` has many particles early and few late, ``"late"`` the other way round; ``"rollover"`` decides
as it goes."""

Schedule: TypeAlias = str | tuple[float, ...] | Line | Saving | None


def get_schedule(value: Schedule) -> Line | Listed | Saving | None:
    """Return a schedule by name, of listed numbers, or as it is; None keeps the numbers equal."""
    if isinstance(value, str):
        if value not in SCHEDULES:
            raise unknown_name("schedule", value, SCHEDULES)
        return SCHEDULES[value]
    if isinstance(value, Sequence):
        return Listed(tuple(value))
    if value is None or isinstance(value, Line | Listed | Saving):
        return value
    raise ConfigError(f"schedule must be one of {', '.join(SCHEDULES)}, numbers or a schedule, got {value!r}")


def sizes_of(schedule: Line | Listed | None, n: int, steps: int) -> tuple[int, ...]:
    """Numbers of particles at the looks of all levels; they sum to ``n * steps``, or more if that is few."""
    if schedule is None:
        return (n,) * steps
    shares = schedule(steps)
    total = sum(shares)
    sizes = [max(FEWEST, int(n * steps * share / total)) for share in shares]
    sizes[-1] = max(FEWEST, sizes[-1] + n * steps - sum(sizes))
    return tuple(sizes)
