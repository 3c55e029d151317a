"""Results on stdout, everything else on stderr; plain text where nobody looks at a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 160
"""Columns of text that goes into a file or a pipe."""


def console(file: TextIO) -> Console:
    """A console that prints text as it is: square brackets are no markup."""
    width = None if file.isatty() else WIDTH
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print a table to stdout; ``None`` is empty and truth values are yes and no."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(as_text, row))
    console(sys.stdout).print(table)


def print_line(text: str = "") -> None:
    """Print one line to stdout, however long."""
    console(sys.stdout).print(text, soft_wrap=True)


def print_json(document: Any) -> None:
    """Print one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def note(text: str) -> None:
    """Print one line to stderr."""
    console(sys.stderr).print(text, soft_wrap=True)


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Send to stderr what rewards, models and libraries print."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def as_text(value: Any) -> str:
    """Write a value for a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def as_bytes(count: int) -> str:
    """Write a size: 1.5 MB."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def as_duration(seconds: float) -> str:
    """Write a duration: 75 s is 1:15 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d} h"
    return f"{minutes}:{int(seconds % 60):02d} min"
