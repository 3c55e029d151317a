"""Configuration files: YAML and JSON in, plain values out, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from itscale.errors import ConfigError, did_you_mean

SUFFIXES = (".yaml", ".yml", ".json")


class _Loader(yaml.SafeLoader):
    """YAML with two repairs: ``1e-3`` is a number, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"key {key_node.value!r} is given twice (line {line}); keep one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse(text: str, where: str) -> Any:
    """Return the value of a YAML (or JSON) text.

    Raises:
        ConfigError: naming ``where`` and the line, if it is not valid.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: no objects are made
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{where}{line} is not valid YAML: {problem}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a file.

    Raises:
        ConfigError: if there is no such file, or it holds no mapping.
    """
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        near = [name for name in near if name.endswith(SUFFIXES)]
        raise ConfigError(f"there is no configuration file {str(path)!r}.{did_you_mean(path.name, near)}")
    value = parse(path.read_text(encoding="utf-8"), path.name)
    if not isinstance(value, dict):
        raise ConfigError(f"{path.name} must hold a mapping such as 'model: digits', got {value!r}")
    return value


def dump(value: Any) -> str:
    """Return plain values as YAML, short lists and mappings on one line."""
    return yaml.dump(value, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)


def canonical(value: Any) -> str:
    """Return plain values as JSON with one spelling: sorted keys, no spaces, 16.0 as 16."""
    return json.dumps(_one_spelling(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _one_spelling(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _one_spelling(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_one_spelling(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
