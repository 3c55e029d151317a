"""A run's configuration: read from a recipe, a file or a mapping, overridden, and checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from itscale.errors import UnknownName, did_you_mean
from itscale.runs import documents, layers
from itscale.runs.cells import SECTIONS, Cell, RunSettings, as_section, expand
from itscale.runs.overrides import Override, read_overrides
from itscale.runs.recipes import RECIPES, recipe_path
from itscale.runs.schema import check_keys
from itscale.runs.sweeps import fix_swept, sweep_over

ENVIRONMENT = {"ITSCALE_DEVICE": "pool.device", "ITSCALE_MICROBATCH": "pool.microbatch"}
"""Machine facts that the environment may state."""

UNSET = "unset"
KEYS = ("description", "prompts", *SECTIONS, "sweep")
OF_RUN = tuple(f.name for f in fields(RunSettings))
"""Settings of the section run, which an override may name without it: ``budget.nfe=500``."""


class Setting(NamedTuple):
    """One value and where it came from: ``default``, a file, ``environment`` or ``override``."""

    path: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Config:
    """A checked configuration.

    Attributes:
        name: recipe or file name; names the folder of a run.
        values: the merged layers, without defaults.
        origins: dotted path -> the layer that set it.
        cells: the runs it stands for.
    """

    name: str
    values: dict[str, Any]
    origins: dict[str, str]
    cells: tuple[Cell, ...]

    @cached_property
    def identity(self) -> str:
        """Hash of all cells: equal for configurations that run the same."""
        keys = documents.canonical(sorted(cell.key for cell in self.cells))
        return hashlib.sha256(keys.encode()).hexdigest()[:16]

    def settings(self) -> list[Setting]:
        """Return every value with its origin, the defaults of the first cell included."""
        given = [Setting(p, v, self.origins.get(p, "default")) for p, v in layers.leaves(self.values)]
        known = {s.path for s in given}
        swept = {path for cell in self.cells for path in cell.swept}
        defaults = [
            Setting(path, value, "default")
            for path, value in layers.leaves(self.cells[0].resolved)
            if path not in known and not any(path == s or path.startswith(f"{s}.") for s in (*swept, *known))
        ]
        return given + [s for s in defaults if s.value is not None]

    def to_yaml(self) -> str:
        """Return the configuration as a file that ``load_config`` reads."""
        return documents.dump(self.values)


def load_config(
    source: str | Path | Mapping[str, Any] | Config, overrides: Sequence[str] = (), *, sweep: bool = False
) -> Config:
    """Read and check a configuration. Later layers win: recipe, file, environment, overrides.

    Args:
        source: a recipe's name, a path to a YAML or JSON file, or a mapping. A file or mapping may name the
            recipe it builds on: ``recipe: quickstart``.
        overrides: ``key.sub=value``, values in YAML. One that sets a swept key fixes it.
        sweep: allow ``key=a,b,c``, a sweep over the values.

    Raises:
        ConfigError: for the first thing that is unknown, misspelt or of a wrong type, naming its path.
    """
    if isinstance(source, Config):
        name, stack = source.name, [("file", source.values)]
    else:
        name, stack = _source(source)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, tree in stack:
        check_keys(tree, KEYS, "")
        tree = {k: as_section(k, v) for k, v in tree.items()}
        above = layers.merge(fix_swept(values, tree), tree)
        origins = layers.origins_after(origins, values, above, origin)
        values = above
    for override in [*_environment(), *read_overrides(overrides, sweep=sweep)]:
        above = _apply(values, override)
        origin = "environment" if override.text.startswith("ITSCALE_") else "override"
        origins = layers.origins_after(origins, values, above, origin)
        values = above
    return Config(name, values, origins, tuple(expand(values)))


def _apply(values: dict[str, Any], override: Override) -> dict[str, Any]:
    section = override.key.partition(".")[0]
    if section in OF_RUN:
        section, override = "run", replace(override, key=f"run.{override.key}")
    if section not in KEYS:
        raise UnknownName(
            f"override {override.text!r}: unknown key {section!r}.{did_you_mean(section, KEYS)} "
            f"Known keys: {', '.join(KEYS)}."
        )
    if override.key == "sweep":
        return {**values, "sweep": override.values[0]}
    if section == "sweep":
        return sweep_over(values, override.key.removeprefix("sweep."), list(override.values))
    if override.is_list:
        return sweep_over(values, override.key, list(override.values))
    value = as_section(override.key, override.values[0])
    changed = fix_swept(values, layers.put({}, override.key, value), override.key)
    return layers.put(changed, override.key, value)


def _source(source: str | Path | Mapping[str, Any]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    if isinstance(source, Mapping):
        return "config", _with_recipe("given", dict(source))
    text = str(source)
    if text in RECIPES:
        return text, [(f"recipe {text}", documents.read(recipe_path(text)))]
    is_path = isinstance(source, Path) or os.sep in text or "/" in text or text.endswith(documents.SUFFIXES)
    if not is_path and not Path(text).is_file():
        raise UnknownName(
            f"unknown recipe {text!r}.{did_you_mean(text, RECIPES)} Recipes: {', '.join(sorted(RECIPES))}; "
            "a configuration file is named with its ending, such as mine.yaml"
        )
    path = Path(text).expanduser()
    return path.stem, _with_recipe(path.name, documents.read(path))


def _with_recipe(origin: str, tree: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    recipe = tree.pop("recipe", None)
    if recipe is None:
        return [(origin, tree)]
    if recipe not in RECIPES:
        raise UnknownName(f"recipe: unknown recipe {recipe!r}.{did_you_mean(recipe, RECIPES)}")
    return [(f"recipe {recipe}", documents.read(recipe_path(recipe))), (origin, tree)]


def _environment() -> list[Override]:
    found = []
    for variable, path in ENVIRONMENT.items():
        if text := os.environ.get(variable):
            found.append(Override(path, (documents.parse(text, variable),), f"{variable}={text}"))
    return found


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return path, my value and theirs where two configurations differ, machine facts aside.

    A value that one of them does not have is ``"unset"``.
    """
    aside = ("pool", "description")
    a = {p: v for p, v in layers.leaves(dict(mine)) if p.partition(".")[0] not in aside}
    b = {p: v for p, v in layers.leaves(dict(theirs)) if p.partition(".")[0] not in aside}
    paths = sorted({*a, *b})
    return [(p, a.get(p, UNSET), b.get(p, UNSET)) for p in paths if a.get(p, UNSET) != b.get(p, UNSET)]
