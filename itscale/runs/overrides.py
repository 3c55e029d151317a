"""Overrides: ``key.sub=value`` on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itscale.errors import ConfigError
from itscale.runs import documents


@dataclass(frozen=True)
class Override:
    """One override; ``values`` has several entries where a sweep over them was asked for."""

    key: str
    values: tuple[Any, ...]
    text: str

    @property
    def is_list(self) -> bool:
        return len(self.values) > 1


def read_overrides(texts: Sequence[str], *, sweep: bool = False) -> list[Override]:
    """Read ``key.sub=value`` texts; values are YAML.

    Args:
        texts: what the user wrote.
        sweep: ``key=a,b,c`` means a sweep over three values. Otherwise it is an error, since a bare comma
            is nearly always meant so; a list is written ``key=[a, b]``.

    Raises:
        ConfigError: for a text without ``=``, an invalid value, or a bare list outside a sweep.
    """
    return [_read(text, sweep) for text in texts]


def _read(text: str, sweep: bool) -> Override:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"override {text!r} must look like key.sub=value, for example run.seed=3")
    parts = _split(value)
    if len(parts) > 1 and not sweep:
        raise ConfigError(
            f"override {text!r} lists {len(parts)} values, which only a sweep runs one by one: "
            f"use 'itscale sweep', or write one list as {key}=[{', '.join(p.strip() for p in parts)}]"
        )
    return Override(key, tuple(documents.parse(part.strip(), f"override {text!r}") for part in parts), text)


def _split(value: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in value:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "[{(":
            depth += 1
        elif c in "]})":
            depth -= 1
        if c == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return parts
