"""A fixed list of prompts to compare methods on: three groups of ten, of two to five objects each."""

from __future__ import annotations

BENCHMARK: dict[str, tuple[str, ...]] = {
    "quantity": (
        "2 red circles",
        "3 blue squares",
        "4 green triangles",
        "5 yellow circles",
        "2 yellow triangles",
        "3 green circles",
        "4 red squares",
        "5 blue triangles",
        "3 red triangles",
        "4 blue circles",
    ),
    "composition": (
        "1 blue square and 1 green triangle",
        "1 red circle and 2 yellow squares",
        "2 green circles and 2 red triangles",
        "3 blue circles and 2 yellow triangles",
        "1 yellow circle and 3 green squares",
        "1 red square and 1 blue circle and 1 green triangle",
        "1 red triangle and 2 red circles",
        "2 blue circles and 1 blue square",
        "1 green square and 2 yellow circles and 2 blue triangles",
        "2 red squares and 1 yellow triangle and 1 green circle",
    ),
    "relation": (
        "a red circle left of a blue square",
        "a green triangle left of a yellow circle",
        "a blue circle left of a red circle",
        "a yellow square left of a green square",
        "a red triangle left of a red square",
        "a blue triangle left of a yellow triangle",
        "a green circle left of a blue square and 1 red square",
        "a yellow circle left of a green triangle and 1 blue triangle",
        "a red square left of a yellow square and 2 green circles",
        "a green square left of a blue square and 1 red circle and 2 yellow triangles",
    ),
}
"""Group -> texts."""

BENCHMARK_PROMPTS: tuple[str, ...] = tuple(text for texts in BENCHMARK.values() for text in texts)
