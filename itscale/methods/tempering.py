"""How much of the value counts at each level: exponents that rise to 1 with the last look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError, unknown_name
from itscale.particles import effective_sample_size


class Exponents(Protocol):
    """``exponents(steps)`` -> (steps,) float64: the exponent of the value at the look of each level."""

    def __call__(self, steps: int) -> Float64[Tensor, " steps"]: ...


def _ending_at_one(values: Tensor) -> Tensor:
    values[-1] = 1.0  # the last look is the output: its value is the reward itself
    return values


@dataclass(frozen=True)
class Full:
    """The value counts fully at every level: plain twisted SMC."""

    def __call__(self, steps: int) -> Float64[Tensor, " steps"]:
        return torch.ones(steps, dtype=torch.float64)


@dataclass(frozen=True)
class Ramp:
    """``k / (steps - 1)``: in proportion to the level."""

    def __call__(self, steps: int) -> Float64[Tensor, " steps"]:
        return _ending_at_one(torch.linspace(0, 1, steps, dtype=torch.float64))


@dataclass(frozen=True)
class Exponential:
    """``min(1, (1 + gamma)^k - 1)``.

    Attributes:
        gamma: growth per level; by default the one that reaches 1 at 87 % of the levels.

    Reference:
        Kim et al. (2025), arXiv:2501.05803, section 4 (gamma = 0.008 for 100 steps).
    """

    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.gamma is not None and not self.gamma > 0:
            raise ConfigError(f"tempering gamma must be > 0, got {self.gamma!r}")

    def __call__(self, steps: int) -> Float64[Tensor, " steps"]:
        gamma = self.gamma or 2 ** (1 / max(1.0, 0.87 * steps)) - 1
        growth = (1 + gamma) ** torch.arange(steps, dtype=torch.float64) - 1
        if float(growth[-1]) < 0.5:
            raise ConfigError(
                f"tempering with gamma {gamma:g} reaches {float(growth[-1]):.2g} in {steps} steps and would "
                f"jump to 1 at the last; use gamma >= {2 ** (1 / steps) - 1:.3g}, or leave it out"
            )
        return _ending_at_one(growth.clamp(max=1.0))


@dataclass(frozen=True)
class Polynomial:
    """``min(1, (gamma k / (steps - 1))^power)``."""

    power: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ConfigError(f"tempering power must be > 0, got {self.power!r}")
        if not self.gamma >= 1:
            raise ConfigError(
                f"tempering gamma must be >= 1, or the exponent never reaches 1; got {self.gamma!r}"
            )

    def __call__(self, steps: int) -> Float64[Tensor, " steps"]:
        line = torch.linspace(0, 1, steps, dtype=torch.float64)
        return _ending_at_one((self.gamma * line).clamp(max=1.0) ** self.power)


@dataclass(frozen=True)
class Listed:
    """Exponents given one by one, for the levels of one grid.

    Attributes:
        values: one per level, each in [0, 1.5]; the last must be 1.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or self.values[-1] != 1:
            raise ConfigError(f"tempering must end at 1, the reward itself; got {self.values!r}")
        if any(not 0 <= v <= 1.5 for v in self.values):
            raise ConfigError(f"tempering exponents must be in [0, 1.5], got {self.values!r}")

    def __call__(self, steps: int) -> Float64[Tensor, " steps"]:
        if len(self.values) != steps:
            raise ConfigError(
                f"tempering lists {len(self.values)} exponents for {steps} steps; give one each"
            )
        return torch.tensor(self.values, dtype=torch.float64)


@dataclass(frozen=True)
class Adaptive:
    """The largest exponent, at least the one before, at which the cumulative weights keep their ESS.

    Chosen by each group from its own particles, so the evidence is consistent and no longer unbiased.

    Attributes:
        ess: share of the particles that is to count.
        ceiling: exponents that it never exceeds. Near noise all values are alike and every exponent seems
            free; without a ceiling it would be 1 from the first level on.
    """

    ess: float = 0.5
    ceiling: Exponents = Ramp()

    def __post_init__(self) -> None:
        if not 0 < self.ess < 1:
            raise ConfigError(f"tempering ess must be in (0, 1), got {self.ess!r}")

    def next(
        self,
        log_weights: Float64[Tensor, "g n"],
        value: Float64[Tensor, "g n"],
        applied: Float64[Tensor, "g n"],
        before: Float64[Tensor, " g"],
        highest: float = 1.0,
    ) -> Float64[Tensor, " g"]:
        """Return the exponent of each group, in [before, highest].

        Args:
            log_weights: weights that the particles bring.
            value: tilt * reward now.
            applied: the exponent before times the value before, which the new factor takes back.
            before: the exponent before.
            highest: the ceiling here.
        """

        def share(exponent: Tensor) -> Tensor:
            gain = (exponent[:, None] * value - applied).nan_to_num(neginf=-torch.inf)
            return effective_sample_size(log_weights + gain) / log_weights.shape[-1]

        low, high = before.clone(), before.clamp_min(highest)
        top = high
        fits = share(high) >= self.ess
        for _ in range(50):  # bisection to the last bit; ESS falls as the exponent grows
            middle = (low + high) / 2
            keeps = share(middle) >= self.ess
            low, high = torch.where(keeps, middle, low), torch.where(keeps, high, middle)
        return torch.where(fits, top, low)


TEMPERING: dict[str, type] = {
    "none": Full,
    "ramp": Ramp,
    "exponential": Exponential,
    "polynomial": Polynomial,
    "adaptive": Adaptive,
}


def get_tempering(value: str | Sequence[float] | Exponents | Adaptive) -> Exponents | Adaptive:
    """Return tempering by name or pass one through."""
    if isinstance(value, str):
        if value not in TEMPERING:
            raise unknown_name("tempering", value, TEMPERING)
        return TEMPERING[value]()
    if isinstance(value, Sequence):
        return Listed(tuple(value))
    if isinstance(value, Adaptive) or callable(value):
        return value
    raise ConfigError(f"tempering must be a name or exponents such as Ramp(), got {value!r}")
