"""How later layers change a sweep: fixing a key that is swept, or sweeping over another."""

from __future__ import annotations

from typing import Any

from itscale.runs import layers
from itscale.runs.cells import blocks


def fix_swept(values: dict[str, Any], tree: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """Return the values with the sweep adapted to what a later layer sets.

    What is set at a swept path, or above it, ends the sweep over it. What is set below one
    (``method.children`` where ``method`` is swept) is set in each of its values.

    Args:
        values: the layers so far.
        tree: the layer; its own ``sweep`` is left alone.
        key: the one path that it sets; all its leaves if not given.
    """
    if not values.get("sweep") or "sweep" in tree:
        return values
    changed = [(key, None)] if key else list(layers.leaves(tree))
    found = blocks(values["sweep"])
    for path, value in changed:
        path = path.removesuffix(".name")
        found = [_without(block, path) for block in found]
        if key:
            value = _at(tree, path)
        found = [{p: _set_below(p, options, path, value) for p, options in b.items()} for b in found]
    found = [block for block in found if block]
    return {**values, "sweep": found[0] if len(found) == 1 else found or {}}


def sweep_over(values: dict[str, Any], path: str, options: list[Any]) -> dict[str, Any]:
    """Return the values with a sweep over ``path`` in every block; ``[None]`` takes it out."""
    if options == [None]:
        found = [_without(block, path) for block in blocks(values.get("sweep") or {})]
    else:
        if len(options) == 1 and isinstance(options[0], list):
            options = options[0]
        found = [{**_without(block, path), path: options} for block in blocks(values.get("sweep") or {})]
    return {**values, "sweep": found[0] if len(found) == 1 else found}


def _without(block: dict[str, list[Any]], path: str) -> dict[str, list[Any]]:
    return {p: v for p, v in block.items() if p != path and not p.startswith(f"{path}.")}


def _set_below(swept: str, options: list[Any], path: str, value: Any) -> list[Any]:
    if not path.startswith(f"{swept}."):
        return options
    rest = path[len(swept) + 1 :]
    return [layers.put({"at": layers.named(option)}, f"at.{rest}", value)["at"] for option in options]


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree
