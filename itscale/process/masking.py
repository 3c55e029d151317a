"""How sequences are hidden over time: the share of clean tokens, and when a position is revealed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError, unknown_name


@runtime_checkable
class MaskSchedule(Protocol):
    """The probability a(t) that a token is clean: 0 at t = 0, 1 at t = 1, increasing.

    Papers count time the other way: their ``alpha_t`` is ``a(1 - t)``.
    """

    def clean(self, t: float) -> float: ...


@dataclass(frozen=True)
class LinearMasking:
    """``a = t``: in a uniform grid every step reveals as many tokens ("log-linear" in the literature)."""

    def clean(self, t: float) -> float:
        return t


@dataclass(frozen=True)
class CosineMasking:
    """``a = cos(pi (1 - t) / 2)``: few tokens early on... in noise time; many steps where few are hidden."""

    def clean(self, t: float) -> float:
        return math.cos(math.pi * (1 - t) / 2)


@dataclass(frozen=True)
class SquaredCosineMasking:
    """``a = cos^2(pi (1 - t) / 2)``."""

    def clean(self, t: float) -> float:
        return math.cos(math.pi * (1 - t) / 2) ** 2


@dataclass(frozen=True)
class PolynomialMasking:
    """``a = 1 - (1 - t)^power``."""

    power: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise ConfigError(f"power of a masking schedule must be > 0, got {self.power!r}")

    def clean(self, t: float) -> float:
        return 1 - (1 - t) ** self.power


@dataclass(frozen=True)
class GeometricMasking:
    """``1 - a`` falls geometrically in its rate: ``a = exp(-s)``, ``s`` from ``high`` to ``low``.

    The ends are stretched to 0 and 1, which the published form only comes near.
    """

    low: float = 1e-4
    high: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ConfigError(
                f"a geometric schedule needs 0 < low < high, got {self.low!r} and {self.high!r}"
            )

    def clean(self, t: float) -> float:
        def plain(s: float) -> float:
            return math.exp(-(self.low**s) * self.high ** (1 - s))

        return (plain(t) - plain(0.0)) / (plain(1.0) - plain(0.0))


@dataclass(frozen=True)
class MaskingTable:
    """a(t) through given points on a uniform grid, straight between them.

    Attributes:
        values: a(0) = 0, ..., a(1) = 1, increasing; such as a schedule that was fitted.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        rises = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        if len(self.values) < 2 or self.values[0] != 0 or self.values[-1] != 1 or not rises:
            raise ConfigError(f"a table of clean shares must rise from 0 to 1, got {self.values!r}")

    def clean(self, t: float) -> float:
        place = t * (len(self.values) - 1)
        k = min(int(place), len(self.values) - 2)
        return self.values[k] + (place - k) * (self.values[k + 1] - self.values[k])


MASKINGS: dict[str, type] = {
    "linear": LinearMasking,
    "cosine": CosineMasking,
    "squared-cosine": SquaredCosineMasking,
    "polynomial": PolynomialMasking,
    "geometric": GeometricMasking,
}
ScheduleName: TypeAlias = str | MaskSchedule


def get_masking(value: ScheduleName) -> MaskSchedule:
    """Return a schedule by name or pass one through."""
    if isinstance(value, str):
        name = value.lower().replace("_", "-")
        if name not in MASKINGS:
            raise unknown_name("masking schedule", value, MASKINGS)
        return MASKINGS[name]()
    if not isinstance(value, MaskSchedule):
        raise ConfigError(f"a masking schedule must be a name or have clean(t), got {value!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class Masking:
    """The process of a masked model: hidden tokens are revealed.

    Attributes:
        schedule: ``"linear"``, ``"cosine"``, ``"squared-cosine"``, ``"polynomial"``, ``"geometric"``, or an
            object with ``clean(t)``. It matters to kernels that reveal at random times, and to networks that
            are told the time; one event per position has no use for it.
    """

    schedule: ScheduleName = "linear"

    def __post_init__(self) -> None:
        get_masking(self.schedule)

    def clean_shares(self, steps: int) -> Float64[Tensor, " levels"]:
        """a at ``steps`` + 1 levels of a uniform grid, ends exact.

        Raises:
            ConfigError: if the schedule does not rise from 0 to 1.
        """
        schedule = get_masking(self.schedule)
        shares = torch.tensor([schedule.clean(k / steps) for k in range(steps + 1)], dtype=torch.float64)
        ends = abs(float(shares[0])) < 1e-9 and abs(float(shares[-1]) - 1) < 1e-9
        if not ends or not bool((shares.diff() > 0).all()):
            raise ConfigError(
                f"masking schedule {schedule!r} must rise from 0 to 1, got {shares[:3].tolist()} ... "
                f"{float(shares[-1]):g}"
            )
        shares[0], shares[-1] = 0.0, 1.0
        return shares

    def times_of(self, shares: Float64[Tensor, " rows"]) -> Float64[Tensor, " rows"]:
        """Times at which such shares are clean, by bisection to rounding."""
        schedule = get_masking(self.schedule)
        if isinstance(schedule, LinearMasking):
            return shares
        found = []
        for share in shares.tolist():
            low, high = 0.0, 1.0
            for _ in range(50):
                middle = (low + high) / 2
                low, high = (middle, high) if schedule.clean(middle) < share else (low, middle)
            found.append((low + high) / 2)
        return torch.tensor(found, dtype=torch.float64)
