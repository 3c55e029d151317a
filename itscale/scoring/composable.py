"""Arithmetic on rewards, for everything that can become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from itscale.errors import ConfigError
from itscale.scoring import rules

if TYPE_CHECKING:
    from itscale.scoring.protocol import Reward


class Composable:
    """``+ - * /`` with numbers and rewards, comparisons with numbers, and named transformations.

    Every composition keeps the values of the functions below it in ``Scores.parts`` and is
    differentiable if all of them are. A sample that is invalid for one of them is invalid.
    """

    def __add__(self, other: Any) -> Reward:
        return _linear(self, other, 1.0)

    def __radd__(self, other: Any) -> Reward:
        return _linear(self, other, 1.0)

    def __sub__(self, other: Any) -> Reward:
        return _linear(self, other, -1.0)

    def __rsub__(self, other: Any) -> Reward:
        return _linear(-self, other, 1.0)

    def __neg__(self) -> Reward:
        return _combine(rules.Linear((-1.0,)), self)

    def __mul__(self, other: Any) -> Reward:
        if isinstance(other, Real):
            return _combine(rules.Linear((_finite(other, "a weight"),)), self)
        if _is_reward(other):
            return _combine(rules.Product(), self, other)
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Reward:
        if isinstance(other, Real):
            if other == 0:
                raise ConfigError("a reward cannot be divided by zero")
            return self * (1 / float(other))
        return NotImplemented

    def __lt__(self, threshold: float) -> Reward:
        return _combine(rules.Compare("<", _finite(threshold, "a threshold")), self)

    def __le__(self, threshold: float) -> Reward:
        return _combine(rules.Compare("<=", _finite(threshold, "a threshold")), self)

    def __gt__(self, threshold: float) -> Reward:
        return _combine(rules.Compare(">", _finite(threshold, "a threshold")), self)

    def __ge__(self, threshold: float) -> Reward:
        return _combine(rules.Compare(">=", _finite(threshold, "a threshold")), self)

    def clip(self, low: float | None = None, high: float | None = None) -> Reward:
        """Hold the score between two bounds; the gradient is zero outside."""
        return _combine(rules.Clip(low, high), self)

    def standardise(self, mean: float, std: float) -> Reward:
        """``(r - mean) / std``: comparable tilts for rewards of different scale."""
        if not _finite(std, "std") > 0:
            raise ConfigError(f"standardise needs a std above zero, got {std}")
        return _combine(rules.Linear((1 / std,), -_finite(mean, "mean") / std), self)

    def gate(self, condition: Any, otherwise: float = -math.inf) -> Reward:
        """The score where ``condition`` (a reward, mostly a comparison) is above 0, else ``otherwise``.

        The default forbids the rest: ``-inf`` is a legal score with weight zero.
        """
        return _combine(rules.Gate(float(otherwise)), self, condition)


def log(reward: Any) -> Reward:
    """Natural logarithm of a reward: ``-inf`` at 0, invalid below."""
    return _combine(rules.Log(), reward)


def minimum(*rewards: Any) -> Reward:
    """The smallest of several rewards, sample by sample."""
    if len(rewards) < 2:
        raise ConfigError(f"minimum needs at least two rewards, got {len(rewards)}")
    return _combine(rules.Minimum(), *rewards)


def geometric_mean(*rewards: Any, weights: Sequence[float] | None = None) -> Reward:
    """The weighted geometric mean of rewards from 0 upwards: good only where all are, as desirabilities are.

    Raises:
        ConfigError: for a single reward, or weights that are not one positive number each.

    Reference:
        Derringer and Suich (1980), "Simultaneous Optimization of Several Response Variables", J. Quality
        Technology 12:214.
    """
    if len(rewards) < 2:
        raise ConfigError(f"geometric_mean needs at least two rewards, got {len(rewards)}")
    found = tuple(_finite(w, "a weight") for w in (weights or [1.0] * len(rewards)))
    if len(found) != len(rewards) or min(found) <= 0:
        raise ConfigError(f"geometric_mean: weights must be a number above 0 for each reward, got {found}")
    return _combine(rules.GeometricMean(found), *rewards)


def add_arithmetic(cls: type) -> None:
    """Give a user's class the operators above, except for those it has itself."""
    for name, member in vars(Composable).items():
        if callable(member) and (name not in dir(cls) or getattr(cls, name) is getattr(object, name, None)):
            setattr(cls, name, member)


def _combine(rule: rules.Rule, *operands: Any) -> Reward:
    from itscale.scoring.convert import as_reward
    from itscale.scoring.protocol import Reward

    return Reward.combine(rule, *map(as_reward, operands))


def _linear(first: Any, other: Any, sign: float) -> Reward:
    if isinstance(other, Real):
        return _combine(rules.Linear((1.0,), sign * _finite(other, "a shift")), first)
    if _is_reward(other):
        return _combine(rules.Linear((1.0, sign)), first, other)
    return NotImplemented


def _is_reward(other: Any) -> bool:
    return isinstance(other, Composable) or callable(other) or isinstance(other, str)


def _finite(value: Any, what: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigError(f"{what} for a reward must be a finite number, got {value!r}")
    return float(value)
