"""Prompts: how many objects of each kind, and which of two stands on the left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError, did_you_mean
from itscale.scenes.kinds import COLOURS, KINDS, MOST_OBJECTS, SHAPES, Kind

NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
ENCODING = 3 * len(KINDS) + 1
"""Length of an encoded prompt."""
EXAMPLE = "write for example '2 blue squares and 1 green triangle' or 'a red circle left of a blue square'"


@dataclass(frozen=True)
class Prompt:
    """All objects of a scene, counted by kind, and at most one relation.

    A scene satisfies it if it holds exactly these objects, no others, and the first kind of the relation has
    its centre to the left of the second.

    Args:
        counts: how many of each of ``KINDS``; one to ``MOST_OBJECTS`` in all.
        relation: indices of the kinds that stand left and right; one object of each must be counted.

    Raises:
        ConfigError: for counts or a relation that no scene can have.
    """

    counts: tuple[int, ...]
    relation: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if len(self.counts) != len(KINDS) or min(self.counts) < 0:
            raise ConfigError(
                f"counts must be {len(KINDS)} whole numbers >= 0, one per kind, got {self.counts}"
            )
        if not 1 <= sum(self.counts) <= MOST_OBJECTS:
            raise ConfigError(f"a scene holds 1 to {MOST_OBJECTS} objects, and {self} has {sum(self.counts)}")
        if self.relation is not None:
            left, right = self.relation
            if left == right or self.counts[left] != 1 or self.counts[right] != 1:
                raise ConfigError(
                    f"a relation is between one object of one kind and one of another: {KINDS[left]} and "
                    f"{KINDS[right]} are counted {self.counts[left]} and {self.counts[right]} times"
                )

    @property
    def objects(self) -> tuple[int, ...]:
        """The kind of every object, in the order of ``KINDS``."""
        return tuple(kind for kind, count in enumerate(self.counts) for _ in range(count))

    def __str__(self) -> str:
        related = self.relation or ()
        parts = [
            f"{count} {KINDS[kind]}{'s' if count > 1 else ''}"
            for kind, count in enumerate(self.counts)
            if count and kind not in related
        ]
        if self.relation:
            left, right = self.relation
            parts.insert(0, f"a {KINDS[left]} left of a {KINDS[right]}")
        return " and ".join(parts)


@lru_cache(maxsize=4096)
def parse(text: str) -> Prompt:
    """Read a prompt such as ``"3 red circles"`` or ``"a red circle left of a blue square"``.

    Items are joined by "and" or commas; one of them may be a relation, "left of" or "right of", of two single
    objects. Numbers are digits or words up to five.

    Raises:
        ConfigError: naming the word that is not understood and the closest that is.
    """
    counts, relation = [0] * len(KINDS), None
    for part in re.split(r"\s*(?:,|&|\band\b)\s*", " ".join(text.lower().split())):
        sides = re.split(r"\s+(?:to\s+the\s+|on\s+the\s+)?(left|right)\s+of\s+", part)
        items = [_item(side, text) for side in sides[::2]]
        for count, kind in items:
            if counts[kind]:
                raise ConfigError(f"prompt {text!r} names {KINDS[kind]} twice; give its number once")
            counts[kind] = count
        if len(sides) > 3 or (len(sides) == 3 and relation):
            raise ConfigError(f"prompt {text!r} has more than one relation; at most one is understood")
        if len(sides) == 3:
            (_, first), (_, second) = items
            relation = (first, second) if sides[1] == "left" else (second, first)
    return Prompt(tuple(counts), relation)


def encode(prompts: Iterable[Prompt | None]) -> Float[Tensor, "n 37"]:
    """Return one row per prompt: counts, who stands left, who stands right, and 1; zeros for ``None``."""
    return torch.tensor([_row(prompt) for prompt in prompts]).reshape(-1, ENCODING)


def _row(prompt: Prompt | None) -> Sequence[float]:
    row = [0.0] * ENCODING
    if prompt is not None:
        row[: len(KINDS)] = map(float, prompt.counts)
        for place, kind in enumerate(prompt.relation or ()):
            row[(1 + place) * len(KINDS) + kind] = 1.0
        row[-1] = 1.0
    return row


def _item(words: str, text: str) -> tuple[int, int]:
    """Read "3 red circles" as a number and a kind."""
    found = words.split()
    if len(found) != 3:
        raise ConfigError(f"prompt {text!r}: {words!r} is no number, colour and shape; {EXAMPLE}")
    number, colour, shape = found
    singular = shape[:-1] if shape.endswith("s") else shape
    _known(colour, COLOURS, "colour", text)
    _known(singular, SHAPES, "shape", text)
    if number not in NUMBERS and not (number.isascii() and number.isdigit()):
        raise ConfigError(
            f"prompt {text!r}: {number!r} is no number.{did_you_mean(number, NUMBERS)} "
            f"Give 1 to {MOST_OBJECTS}, as a digit or a word"
        )
    count = NUMBERS[number] if number in NUMBERS else int(number)
    if not 1 <= count <= MOST_OBJECTS:
        raise ConfigError(f"prompt {text!r}: a scene holds 1 to {MOST_OBJECTS} objects, not {count}")
    return count, KINDS.index(Kind(colour, singular))


def _known(word: str, words: Iterable[str], what: str, text: str) -> None:
    if word not in words:
        raise ConfigError(
            f"prompt {text!r}: unknown {what} {word!r}.{did_you_mean(word, words)} Known: {', '.join(words)}"
        )
