"""What a name stands for: built-in tables, other packages' entry points, modules and files."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from itscale.errors import ConfigError, UnknownName, did_you_mean, missing_extra

TABLES = ("itscale.rewards", "itscale.pools.reward_table")
"""Modules with a table ``BUILT_IN``. They are imported by name on first use, as plug-ins are, so that
this package depends on none of them."""
GROUP = "itscale.rewards"
"""Entry-point group by which an installed package offers rewards: name -> ``module:attribute``."""

REFERENCE = re.compile(
    r"(?P<where>[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[^()'\"]*\.py(:[A-Za-z_]\w*)?)(?P<call>\(.*\))?"
)


def canonical(name: str) -> str:
    """Names are compared in lower case, with hyphens for underscores."""
    return name.strip().lower().replace("_", "-")


def known_names() -> list[str]:
    """All names that ``load`` finds, sorted."""
    return sorted({*built_in(), *_offered()})


def is_known(name: str) -> bool:
    """Whether ``load`` finds the name."""
    return canonical(name) in built_in() or canonical(name) in _offered()


def is_plain(text: str) -> bool:
    """Whether a text can only be meant as a name: one word, no hyphened part of which is known."""
    return re.fullmatch(r"[A-Za-z_][\w-]*", text) is not None and not any(map(is_known, text.split("-")))


def load(name: str) -> Any:
    """The class or function that a name stands for.

    Raises:
        UnknownName: with the closest names.
        MissingExtra: if it needs an optional package that is absent.
    """
    key = canonical(name)
    if key in built_in():
        entry = built_in()[key]
        try:
            return load_reference(entry.target)
        except ModuleNotFoundError as error:
            extra = entry.facts.get("extra")
            if extra and not str(error.name).startswith("itscale"):
                raise missing_extra(str(error.name), extra, f"reward {key!r}") from error
            raise
    if key in _offered():
        return _offered()[key].load()
    raise unknown(name)


def unknown(text: str) -> UnknownName:
    """The error for a text that is no reward."""
    return UnknownName(
        f"unknown reward {text!r}.{did_you_mean(canonical(text), known_names())} A reward is a name that "
        "'itscale rewards' lists, an expression such as \"0.5 * symmetry(axis='v') - ink\", "
        "'module:attribute' or './file.py:attribute'"
    )


def split_reference(text: str) -> tuple[str, str | None] | None:
    """``where`` and ``(arguments)`` if a text points to a module's or file's attribute, else None."""
    match = REFERENCE.fullmatch(text)
    return (match["where"].strip(), match["call"]) if match else None


def load_reference(where: str) -> Any:
    """The object at ``module:attribute``, ``path/file.py:attribute`` or ``path/file.py``.

    Raises:
        ConfigError: if module, file or attribute does not exist.
    """
    if re.search(r"\.py(:\w+)?$", where):
        path, _, attribute = where.partition(".py")
        return _attribute(_load_file(Path(path + ".py")), attribute.lstrip(":"), where)
    module_name, _, attribute = where.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise ConfigError(
                f"reward {where!r}: there is no module {error.name!r}; install it, or give a path to a file"
            ) from error
        raise
    return _attribute(module, attribute, where)


def _attribute(module: ModuleType, attribute: str, where: str) -> Any:
    if not attribute:
        return _only_reward(module, where)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            raise ConfigError(f"reward {where!r}: there is no {part!r} in it.{did_you_mean(part, public)}")
        found = getattr(found, part)
    return found


def _only_reward(module: ModuleType, where: str) -> Any:
    """The one thing in a file that can be meant: a decorated one, or else its only function or class."""
    own = {k: v for k, v in vars(module).items() if not k.startswith("_") and callable(v)}
    own = {k: v for k, v in own.items() if getattr(v, "__module__", None) == module.__name__}
    decorated = {k: v for k, v in own.items() if hasattr(v, "spec") or hasattr(v, "__reward_facts__")}
    choice = decorated or own
    if len(choice) != 1:
        listed = ", ".join(sorted(choice)) or "no function"
        raise ConfigError(f"{where} defines {listed}; say which is the reward: {where}:NAME")
    return next(iter(choice.values()))


def _load_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        near = did_you_mean(path.name, _siblings(path))
        raise ConfigError(f"there is no file {str(path)!r} to take a reward from.{near}")
    key = f"{path}|{path.stat().st_mtime_ns}"
    name = f"itscale_file_{path.stem}_{hashlib.blake2b(key.encode(), digest_size=6).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _siblings(path: Path) -> Iterable[str]:
    return [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []


def built_in() -> dict[str, Any]:
    """The entries of all tables, by name: ``target``, ``facts`` and ``weights``."""
    return {
        name: entry for table in TABLES for name, entry in importlib.import_module(table).BUILT_IN.items()
    }


def _offered() -> dict[str, importlib.metadata.EntryPoint]:
    return {canonical(point.name): point for point in importlib.metadata.entry_points(group=GROUP)}
