"""The decorator that gives a built-in class the facts that the table states."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from itscale.errors import ConfigError, did_you_mean
from itscale.scoring import reward

from .table import BUILT_IN

Class = TypeVar("Class", bound=type)


def built_in(name: str) -> Callable[[Class], Class]:
    """Make a class the built-in reward ``name``: its instances score, and take part in arithmetic."""
    return reward(name=name, **BUILT_IN[name].facts)


def check_choice(name: str, field: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise a ``ConfigError`` naming reward, field, value and choices unless ``value`` is one of them."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        near = (
            did_you_mean(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ""
        )
        raise ConfigError(f"reward {name!r}: {field} is {value!r}; choose one of {listed}.{near}")
