"""Errors a user can meet. Each message says what is wrong, why, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ItscaleError(Exception):
    """Base of every error raised on purpose by itscale."""


class ConfigError(ItscaleError, ValueError):
    """A setting is unknown, misspelt, or has a value that cannot work."""


class UnknownName(ConfigError):
    """A name that no table lists."""


class BudgetError(ConfigError):
    """A budget that cannot pay for the smallest run of a method."""


class MissingExtra(ItscaleError, ImportError):
    """An optional package is needed and absent."""


class RewardError(ItscaleError):
    """A reward failed for every sample, or broke its contract."""


class RewardShapeError(RewardError, ValueError):
    """A reward returned another number of scores than it got samples."""


class NonFiniteState(ItscaleError, FloatingPointError):
    """Too many particles reached a NaN or an infinity."""


class PoolError(ItscaleError):
    """A place to compute cannot be had, or broke down for good."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x' or 'y'?`` for close matches of ``name``, or an empty string."""
    close = difflib.get_close_matches(str(name).lower(), [str(k) for k in known], n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str], list_with: str = "") -> UnknownName:
    """Build the error for a name that is in no table.

    Args:
        kind: what was looked up, e.g. ``"reward"``.
        name: the name that was given.
        known: the names that exist.
        list_with: the command that lists them all.
    """
    known = sorted(known)
    hint = f" '{list_with}' lists them all." if list_with else f" Known: {', '.join(known)}."
    return UnknownName(f"unknown {kind} {name!r}.{did_you_mean(name, known)}{hint}")


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtra:
    """Build the one-line error for an absent optional package."""
    return MissingExtra(
        f"{purpose} needs {package!r}, which is not installed: pip install 'itscale[{extra}]'"
    )
