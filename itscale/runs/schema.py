"""Building settings from plain values: names, keys and types are checked, and errors say where and what."""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import pydantic

from itscale.errors import ConfigError, UnknownName, did_you_mean

_STRICT = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)


@dataclasses.dataclass(frozen=True)
class Room:
    """The things of one kind that a configuration can name.

    Attributes:
        kind: what they are called in messages.
        table: name -> class or function; its parameters are the keys of the mapping.
        read: makes one of a bare name or number.
        list_with: the command that lists them.
    """

    kind: str
    table: Mapping[str, Callable[..., Any]]
    read: Callable[[Any], Any] | None = None
    list_with: str = ""

    def find(self, name: Any, path: str) -> str:
        """Return the name as the table spells it.

        Raises:
            UnknownName: with the close ones, if there is none.
        """
        key = _spelling(name)
        if key in self.table:
            return key
        listed = self.list_with and f"'{self.list_with}' lists them"
        listed = listed or f"Known: {', '.join(sorted(self.table))}"
        raise UnknownName(f"{path}: unknown {self.kind} {name!r}.{did_you_mean(key, self.table)} {listed}.")

    def make(self, value: Any, path: str, rooms: Mapping[str, Room]) -> Any:
        """Make one of a bare name, or of a mapping with a name and options."""
        options = dict(value) if isinstance(value, Mapping) else {"name": value}
        if "name" not in options:
            raise ConfigError(f"{path} needs a name; known: {', '.join(sorted(self.table))}")
        name = options.pop("name")
        if not options and self.read is not None and _spelling(name) not in self.table:
            return _within(path, self.read, name)
        name = self.find(name, path)
        check_keys(options, inspect.signature(self.table[name]).parameters, path, f"{self.kind} {name!r}")
        return build(self.table[name], options, path, rooms)

    def takes(self, value: Any) -> list[str] | None:
        """Return the options of what a bare name or a mapping names; None if the table lacks it."""
        name = _spelling(value.get("name") if isinstance(value, Mapping) else value)
        return list(inspect.signature(self.table[name]).parameters) if name in self.table else None

    def name_of(self, value: Any) -> str | None:
        """Return the name under which the table lists the class of a value."""
        return next((name for name, entry in self.table.items() if entry is type(value)), None)


def build(
    factory: Callable[..., Any], options: Mapping[str, Any], path: str, rooms: Mapping[str, Room]
) -> Any:
    """Call a class or function with checked options.

    Args:
        factory: what to call; its parameters are the known keys.
        options: plain values.
        path: where they stand in the configuration.
        rooms: parameter name -> room, for options that name a thing themselves.

    Raises:
        ConfigError: naming the path of an unknown key, a missing one, or a value of another type.
    """
    values = check_options(factory, options, path, rooms)
    return _within(path, factory, **values)


def check_options(
    factory: Callable[..., Any], options: Mapping[str, Any], path: str, rooms: Mapping[str, Room]
) -> dict[str, Any]:
    """Return the options with their values checked and made; the factory is not called."""
    known = inspect.signature(factory).parameters
    check_keys(options, known, path)
    hints = _hints(factory)
    values = {}
    for key, value in options.items():
        where = f"{path}.{key}"
        if key in rooms and value is not None:
            values[key] = rooms[key].make(value, where, rooms)
        else:
            values[key] = check_value(value, hints.get(key, Any), where)
    missing = [k for k, p in known.items() if p.default is inspect.Parameter.empty and k not in values]
    if missing:
        raise ConfigError(f"{path} needs {' and '.join(missing)}")
    return values


def check_keys(options: Mapping[str, Any], known: typing.Iterable[str], path: str, owner: str = "") -> None:
    """Raise for the first key that is not known, naming its path and what its owner takes."""
    known = list(known)
    owner = owner or path or "a configuration"
    for key in options:
        if key not in known:
            full = f"{path}.{key}" if path else str(key)
            takes = f" {owner} takes: {', '.join(known)}." if known else f" {owner} has no options."
            raise UnknownName(f"unknown key '{full}'.{did_you_mean(str(key), known)}{takes}")


def check_value(value: Any, annotation: Any, path: str) -> Any:
    """Return the value as the annotation has it: a list becomes a tuple where one is expected.

    Raises:
        ConfigError: if it is of another type; ``"16"`` is no number, and 1 is no truth value.
    """
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        return build(annotation, value, path, {})
    adapter = _adapter(annotation)
    if adapter is None:
        return value
    try:
        return adapter.validate_json(json.dumps(value))
    except pydantic.ValidationError as error:
        problems = {_sentence(e) for e in error.errors()}
        raise ConfigError(f"{path} is {value!r}: {' or '.join(sorted(problems))}") from error
    except TypeError as error:
        raise ConfigError(
            f"{path} is {value!r}, which is no plain value; write a number or a text"
        ) from error


def plain(value: Any, rooms: Mapping[str, Room]) -> Any:
    """Return settings as plain values: a dataclass becomes its name and all its fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = (name for room in rooms.values() if (name := room.name_of(value)))
        fields = {f.name: plain(getattr(value, f.name), rooms) for f in dataclasses.fields(value) if f.init}
        name = next(found, None)
        return {"name": name, **fields} if name else fields
    if isinstance(value, list | tuple):
        return [plain(v, rooms) for v in value]
    if isinstance(value, Mapping):
        return {k: plain(v, rooms) for k, v in value.items()}
    return value if isinstance(value, str | int | float | bool | types.NoneType) else repr(value)


def _spelling(name: Any) -> str:
    return str(name).strip().lower().replace("_", "-")


def _within(path: str, factory: Callable[..., Any], *args: Any, **values: Any) -> Any:
    """Call, and put the path in front of what goes wrong."""
    try:
        return factory(*args, **values)
    except ConfigError as error:
        text = str(error)
        raise type(error)(text if text.startswith(path) else f"{path}: {text}") from error


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(factory)
    except (NameError, TypeError):  # names that exist for type checkers only
        return {}


@lru_cache(maxsize=256)
def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any] | None:
    """A check for an annotation, or None for one that plain values cannot be checked against."""
    try:
        return pydantic.TypeAdapter(annotation, config=_STRICT)
    except pydantic.PydanticUserError:
        return None


def _sentence(error: Any) -> str:
    text = error["msg"]
    text = text[0].lower() + text[1:]
    return text.replace("input should be", "it should be")
