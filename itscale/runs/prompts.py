"""Prompts from a file: one a line, or JSON lines and tables as GenEval and DrawBench publish them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError
from itscale.runs.schema import check_keys

PROMPT_KEYS = ("prompt", "prompts", "caption", "text")
"""What a column or key of prompts may be called, in any case."""
SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True)
class Prompts:
    """The section ``prompts``.

    Attributes:
        file: a ``.txt`` file with a prompt a line (empty lines and those that begin with ``#`` are left out),
            ``.jsonl`` or ``.json`` with texts or objects that have a ``prompt``, or a ``.csv`` or ``.tsv``
            table with such a column. What else an object says (GenEval's ``tag`` and ``include``, DrawBench's
            ``Category``) goes to rewards that ask for ``meta``.
        first: how many prompts to leave out at the beginning.
        count: how many to take; None takes the rest.
        together: prompts that one cell computes at once; a cell is what is kept when a run is stopped.
    """

    file: str
    first: int = 0
    count: int | None = None
    together: int = 1

    @classmethod
    def read(cls, value: Any) -> list[list[Any]]:
        """Return the conditions of a section, one list a cell.

        Args:
            value: a file, a list of prompts, or a mapping of the attributes.
        """
        if isinstance(value, list):
            return [[entry] for entry in value]
        given = {"file": value} if isinstance(value, str | Path) else value
        if not isinstance(given, Mapping):
            raise ConfigError(f"prompts is {value!r:.80}: give a file, a list of prompts, or {{file: ...}}")
        given = dict(given)
        check_keys(given, cls.__dataclass_fields__, "prompts")
        for name, least in (("first", 0), ("count", 1), ("together", 1)):
            number = given.get(name)
            if number is not None and (
                isinstance(number, bool) or not isinstance(number, int) or number < least
            ):
                raise ConfigError(f"prompts.{name} is {number!r}: it should be a whole number >= {least}")
        if not isinstance(given.get("file"), str | Path):
            raise ConfigError("prompts needs a file")
        section = cls(**{**given, "file": str(given["file"])})
        listed = read_prompts(Path(section.file).expanduser())
        end = None if section.count is None else section.first + section.count
        chosen = listed[section.first : end]
        if not chosen:
            raise ConfigError(
                f"prompts: {section.file} has {len(listed)} prompts and none after {section.first}"
            )
        return [chosen[i : i + section.together] for i in range(0, len(chosen), section.together)]


def read_prompts(path: Path) -> list[Any]:
    """Return the conditions in a file: texts, or mappings with ``prompt`` and whatever else there is.

    Raises:
        ConfigError: without the file, for one without prompts, and for broken lines, naming the first three.
    """
    if not path.is_file():
        near = (
            sorted(p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES)
            if path.parent.is_dir()
            else []
        )
        there = f" There: {', '.join(near[:8])}" if near else ""
        raise ConfigError(f"prompts file {str(path)!r} does not exist.{there}")
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"prompts file {path.name!r} must end in {', '.join(SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"prompts file {path.name!r} is not UTF-8 text: {error.reason}; save it as UTF-8"
        ) from error
    found, broken = [], []
    for number, entry in _entries(path, text):
        try:
            found.append(_condition(entry))
        except ValueError as error:
            broken.append(f"line {number}: {error}")
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise ConfigError(
            f"prompts file {path.name!r} has {len(broken)} broken lines: {'; '.join(broken[:3])}{more}. "
            "Each needs a "
            'text, or an object such as {"prompt": "a red cube", "tag": "colors"}'
        )
    if not found:
        raise ConfigError(f"prompts file {path.name!r} holds no prompts")
    return found


def _entries(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield the number of a line and what stands there."""
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if path.suffix == ".txt":
        yield from ((i, line.strip()) for i, line in lines if not line.startswith("#"))
    elif path.suffix == ".jsonl":
        for i, line in lines:
            try:
                yield i, json.loads(line)
            except ValueError as error:
                yield i, ValueError(f"no JSON ({error})")
    elif path.suffix == ".json":
        try:
            listed = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"prompts file {path.name!r} is not valid JSON: {error}") from error
        if not isinstance(listed, list):
            raise ConfigError(f"prompts file {path.name!r} must hold a list, got {type(listed).__name__}")
        yield from enumerate(listed, 1)
    else:
        table = csv.DictReader(io.StringIO(text), delimiter="\t" if path.suffix == ".tsv" else ",")
        for i, row in enumerate(table, 2):
            yield i, {k: v for k, v in row.items() if k is not None and v not in (None, "")}


def _condition(entry: Any) -> Any:
    """A condition of one entry; ValueError says what is wrong with it."""
    if isinstance(entry, ValueError):
        raise entry
    if isinstance(entry, str):
        if not entry.strip():
            raise ValueError("an empty text")
        return entry
    if not isinstance(entry, Mapping):
        raise ValueError(f"a {type(entry).__name__}")
    key = next((k for k in entry if str(k).lower() in PROMPT_KEYS), None)
    if key is None:
        raise ValueError(f"no 'prompt' among {', '.join(map(str, entry)) or 'nothing'}")
    if not isinstance(entry[key], str) or not entry[key].strip():
        raise ValueError(f"{key} is {entry[key]!r:.40}")
    rest = {str(k): v for k, v in entry.items() if k != key}
    return {"prompt": entry[key], **rest} if rest else entry[key]
