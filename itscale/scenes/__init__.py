"""Scenes of coloured shapes: prompts, a generator, and what the rewards need to look for."""

from itscale.scenes.generator import Item, Scenes, random_prompts, random_scenes
from itscale.scenes.kinds import COLOURS, KINDS, MOST_OBJECTS, SHAPES, SIDE, Kind
from itscale.scenes.prompts import Prompt, as_prompt, encode, parse

__all__ = [
    "COLOURS",
    "KINDS",
    "MOST_OBJECTS",
    "SHAPES",
    "SIDE",
    "Item",
    "Kind",
    "Prompt",
    "Scenes",
    "as_prompt",
    "encode",
    "parse",
    "random_prompts",
    "random_scenes",
]
