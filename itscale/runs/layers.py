"""Layers of configuration: merging them, paths into them, and where each value came from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from itscale.errors import ConfigError

Path = tuple[str | int, ...]


def named(value: Any) -> Any:
    """Write a bare string as the mapping it stands for."""
    return {"name": value} if isinstance(value, str) else value


def merge(below: Any, above: Any) -> Any:
    """Lay one value over another: mappings key by key, anything else replaces.

    A mapping with another ``name`` replaces as a whole, since options belong to what they were written for.
    """
    if isinstance(below, dict) and isinstance(above, dict):
        if "name" in above and "name" in below and above["name"] != below["name"]:
            return copy.deepcopy(above)
        merged = copy.deepcopy(below)
        for key, value in above.items():
            merged[key] = merge(merged[key], value) if key in merged else copy.deepcopy(value)
        return merged
    return copy.deepcopy(above)


def put(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the tree with a value laid over what is at a dotted path; list entries are numbered from 0."""
    keys = path.split(".")
    if not all(keys):
        raise ConfigError(f"key {path!r} has an empty part; write it as 'run.budget.nfe'")
    return _put(tree, keys, value, path)


def _put(tree: Any, keys: list[str], value: Any, path: str) -> Any:
    if not keys:
        return value
    if isinstance(tree, list):
        if not keys[0].isdigit() or int(keys[0]) >= len(tree):
            raise ConfigError(
                f"{path}: {keys[0]!r} is no index of a list of {len(tree)}; use 0 to {len(tree) - 1}"
            )
        index = int(keys[0])
        inner = named(tree[index]) if len(keys) > 1 else tree[index]
        return [*tree[:index], _put(inner, keys[1:], value, path), *tree[index + 1 :]]
    tree = named(tree) if tree is not None else {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: {tree!r} has no parts, so {keys[0]!r} cannot be set in it")
    inside = _put(tree.get(keys[0]), keys[1:], value, path)
    if keys == ["name"]:
        return merge(tree, {"name": inside})
    if len(keys) == 1 and isinstance(tree.get(keys[0]), dict):
        inside = merge(tree[keys[0]], named(inside))
    return {**tree, keys[0]: inside}


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and value of every leaf; a list is a leaf unless it holds mappings."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list) and any(isinstance(entry, dict) for entry in tree):
        for index, entry in enumerate(tree):
            yield from leaves(entry, f"{path}.{index}")
    else:
        yield path, tree


def origins_after(
    before: dict[str, str], old: dict[str, Any], new: dict[str, Any], origin: str
) -> dict[str, str]:
    """Return where every leaf of ``new`` came from, ``old`` being what was there before this layer.

    A leaf that the layer repeats with the value it already had keeps its earlier origin.
    """
    held = dict(leaves(old))
    return {
        path: before[path] if path in before and held.get(path) == value else origin
        for path, value in leaves(new)
    }
