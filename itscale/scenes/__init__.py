"""Scenes of coloured shapes: prompts, a generator of scenes, and the finding of their objects again."""

from itscale.scenes.benchmark import BENCHMARK, BENCHMARK_PROMPTS
from itscale.scenes.conditions import as_prompt
from itscale.scenes.finding import Found, find
from itscale.scenes.generator import Item, Scenes, random_prompts, random_scenes
from itscale.scenes.kinds import COLOURS, KINDS, MOST_OBJECTS, SHAPES, SIDE, Kind
from itscale.scenes.prompts import ENCODING, Prompt, encode, parse

__all__ = [
    "BENCHMARK",
    "BENCHMARK_PROMPTS",
    "COLOURS",
    "ENCODING",
    "KINDS",
    "MOST_OBJECTS",
    "SHAPES",
    "SIDE",
    "Found",
    "Item",
    "Kind",
    "Prompt",
    "Scenes",
    "as_prompt",
    "encode",
    "find",
    "parse",
    "random_prompts",
    "random_scenes",
]
