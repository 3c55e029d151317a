"""State of a run as plain values and back, for files that hold tensors, numbers and names, and no code."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

from itscale.engine.rows import Rows
from itscale.errors import ConfigError
from itscale.pools import RowsHandle

_KIND = "!kind"


def plain(value: Any) -> Any:
    """Return nested dataclasses, dictionaries, lists and tensors as what ``torch.save`` needs no code for.

    Raises:
        ConfigError: for an object that is none of these.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, RowsHandle):
        return plain(value.home())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {_KIND: kind, **{f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}}
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return {_KIND: "tuple", "items": [plain(entry) for entry in value]}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"the state of a run holds {type(value).__name__} {value!r:.60}, which a checkpoint cannot keep; "
        "a method's state may hold tensors, numbers, strings, lists, dictionaries and dataclasses of these"
    )


def revive(value: Any, adopt: Callable[[Rows], Any]) -> Any:
    """Undo ``plain``; rows go where ``adopt`` takes them, everything else stays on the host.

    Raises:
        ConfigError: for a class that this program does not have.
    """
    if isinstance(value, list):
        return [revive(entry, adopt) for entry in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_KIND)
    if kind is None:
        return {key: revive(entry, adopt) for key, entry in value.items()}
    if kind == "tuple":
        return tuple(revive(entry, adopt) for entry in value["items"])
    fields = {key: revive(entry, adopt) for key, entry in value.items() if key != _KIND}
    if kind == f"{Rows.__module__}:{Rows.__qualname__}":
        return adopt(Rows(**fields))
    return _dataclass(kind)(**fields)


def _dataclass(kind: str) -> Any:
    module, _, name = kind.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the checkpoint needs {kind}, which this program does not have") from error
    if not (dataclasses.is_dataclass(found) and isinstance(found, type)):
        raise ConfigError(f"the checkpoint names {kind}, which is no dataclass")
    return found
