"""Recipes: configurations that ship with the package, by name."""

from __future__ import annotations

from pathlib import Path

RECIPES: dict[str, str] = {
    "quickstart": "steer handwritten digits towards a slim, symmetric 8: four methods at equal cost",
}


def recipe_path(name: str) -> Path:
    """Return the file of a recipe."""
    return Path(__file__).parent / f"{name}.yaml"
