"""A fixed list of prompts to compare methods on, in three groups of ten."""

from __future__ import annotations

BENCHMARK: dict[str, tuple[str, ...]] = {
    "quantity": (
        "3 red circles",
        "4 blue squares",
        "5 green triangles",
        "3 yellow triangles",
        "4 yellow circles",
        "5 red squares",
        "4 green circles",
        "3 blue triangles",
        "5 blue circles",
        "4 red triangles",
    ),
    "composition": (
        "2 blue squares and 1 green triangle",
        "1 red circle and 3 yellow squares",
        "2 green circles and 2 red triangles",
        "3 blue circles and 2 yellow triangles",
        "1 yellow circle and 4 green squares",
        "1 red square and 1 blue circle and 1 green triangle",
        "2 red triangles and 3 red circles",
        "2 blue circles and 2 blue squares",
        "1 green square and 2 yellow circles and 2 blue triangles",
        "2 red squares and 1 yellow triangle and 1 green circle",
    ),
    "relation": (
        "a red circle left of a blue square",
        "a green triangle left of a yellow circle",
        "a blue circle left of a red circle",
        "a yellow square left of a green square",
        "a red triangle left of a red square",
        "a blue triangle left of a green circle and 1 red square",
        "a green circle left of a yellow triangle and 2 blue squares",
        "a yellow circle left of a blue circle and 3 red triangles",
        "a red square left of a yellow square and 2 green circles",
        "a green square left of a blue square and 1 red circle and 2 yellow triangles",
    ),
}
"""Group -> texts."""

BENCHMARK_PROMPTS: tuple[str, ...] = tuple(text for texts in BENCHMARK.values() for text in texts)
