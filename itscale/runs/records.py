"""Rows on disk: JSON lines while a run goes on, Parquet when it is over."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError


def clean(value: Any) -> Any:
    """Return plain values that JSON has: NaN and infinities become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    return value


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows, one line each, and hand them to the operating system at once."""
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(clean(row), ensure_ascii=False, separators=(",", ":")) + "\n")


def flush(path: Path) -> None:
    """Wait until a file's rows are on the disk, where a power cut leaves them."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; a last line that a kill tore apart is left out.

    Raises:
        ConfigError: if another line is damaged.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # bytes: the tear may go through a character
    rows = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):  # no newline came after it
                break
            raise ConfigError(f"{path.name} is damaged in line {number}; remove that line") from error
    return rows


def keep(path: Path, is_kept: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite a file with the rows that pass, complete or not at all."""
    if path.exists():
        rows = [row for row in read_lines(path) if is_kept(row)]
        text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
        write_text(path, text)


def sort(path: Path, place: Callable[[dict[str, Any]], Any]) -> None:
    """Put the rows of a file in order, complete or not at all; rows of one place stay as they are."""
    rows = read_lines(path)
    ordered = sorted(rows, key=place)
    if ordered != rows:
        text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in ordered)
        write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it: it is there complete, or not at all."""
    partial = path.with_name(
        f"{path.name}.partial-{platform.node()}-{os.getpid()}"
    )  # tasks may write one file
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, complete or not at all."""
    write_text(path, json.dumps(clean(value), indent=1, ensure_ascii=False) + "\n")


def write_parquet(source: Path) -> Path | None:
    """Copy JSON lines to Parquet beside them; None without pyarrow or without rows."""
    if importlib.util.find_spec("pyarrow") is None:
        return None
    import pyarrow
    import pyarrow.parquet

    rows = read_lines(source)
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = {name: _column([row.get(name) for row in rows]) for name in columns}
    target = source.with_suffix(".parquet")
    partial = target.with_name(target.name + ".partial")
    pyarrow.parquet.write_table(pyarrow.table(table), partial)
    partial.replace(target)
    return target


def _column(values: list[Any]) -> list[Any]:
    """One type per column: numbers as floats where some are, mixed or nested values as JSON text."""
    kinds = {type(v) for v in values if v is not None}
    if kinds == {int, float}:
        return [None if v is None else float(v) for v in values]
    if len(kinds) > 1 or kinds & {dict, list}:
        return [None if v is None else json.dumps(v) for v in values]
    return values
