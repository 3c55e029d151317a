"""What a scene is made of: shapes, colours, the kinds they combine to, and the limits of a scene."""

from __future__ import annotations

from typing import NamedTuple

SIDE = 32
"""Height and width of a scene in pixels."""
MOST_OBJECTS = 5
"""A scene holds one to this many objects."""
SHAPES = ("circle", "square", "triangle")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.16, 0.16),
    "green": (0.13, 0.62, 0.23),
    "blue": (0.16, 0.32, 0.86),
    "yellow": (0.96, 0.78, 0.10),
}
"""Name -> RGB in [0, 1]."""


class Kind(NamedTuple):
    """One kind of object."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


KINDS: tuple[Kind, ...] = tuple(Kind(colour, shape) for colour in COLOURS for shape in SHAPES)
"""All kinds; kind ``k`` has colour ``k // 3`` and shape ``k % 3``."""
