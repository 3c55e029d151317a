"""How later layers change a sweep: fixing a key that is swept, or sweeping over another."""

from __future__ import annotations

from typing import Any

from itscale.errors import ConfigError, UnknownName, did_you_mean
from itscale.runs import layers
from itscale.runs.cells import blocks
from itscale.runs.rooms import SWEPT


def fix_swept(values: dict[str, Any], tree: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """Return the values with the sweep adapted to what a later layer sets.

    What is set at a swept path, or above it, ends the sweep over it. What is set below one
    (``method.children`` where ``method`` is swept) is set in each of its values.

    Args:
        values: the layers so far.
        tree: the layer; its own ``sweep`` is left alone.
        key: the one path that it sets; all its leaves if not given.

    Raises:
        ConfigError: for an option that not all of the swept things take.
    """
    if not values.get("sweep") or "sweep" in tree:
        return values
    changed = [(key, None)] if key else list(layers.leaves(tree))
    found = blocks(values["sweep"])
    changed = [(path.removesuffix(".name"), value) for path, value in changed]
    for path, _ in changed:
        found = [_without(block, path) for block in found]
    for path, value in changed:
        if key:
            value = _at(tree, path)
        _check_below(found, path)
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


def _check_below(found: list[dict[str, list[Any]]], path: str) -> None:
    """Raise for an option below a swept section that some of its values do not take, naming those that do."""
    section, _, rest = path.partition(".")
    key = rest.partition(".")[0]
    if not key or section not in SWEPT:
        return
    values = [value for block in found for value in block.get(section, [])]
    known = {layers.named(v)["name"]: takes for v in values if (takes := SWEPT[section].takes(v)) is not None}
    willing = [name for name, takes in known.items() if key in takes]
    others = [name for name in known if name not in willing]
    if not others:
        return
    if not willing:
        close = did_you_mean(key, dict.fromkeys(option for takes in known.values() for option in takes))
        listed = "; ".join(f"{name}: {', '.join(takes) or 'no options'}" for name, takes in known.items())
        raise UnknownName(f"unknown key '{section}.{key}'.{close} Options by name: {listed}")
    raise ConfigError(
        f"'{section}.{key}' is an option of {', '.join(willing)} and not of {', '.join(others)}, which the "
        f"sweep has too. Write it where it belongs: "
        f"sweep.{section}=[{', '.join(others)}, {{name: {willing[0]}, {key}: ...}}]"
    )


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree
