"""Prompts: reading, writing and encoding them."""

from __future__ import annotations

import pytest

from itscale.errors import ConfigError
from itscale.scenes import (
    BENCHMARK,
    BENCHMARK_PROMPTS,
    KINDS,
    Kind,
    Prompt,
    as_prompt,
    encode,
    parse,
    random_prompts,
)

CIRCLE, SQUARE, TRIANGLE = (
    KINDS.index(Kind(*words)) for words in (("red", "circle"), ("blue", "square"), ("green", "triangle"))
)


def prompt(counts: dict[int, int], relation: tuple[int, int] | None = None) -> Prompt:
    return Prompt(tuple(counts.get(kind, 0) for kind in range(len(KINDS))), relation)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 red circles", prompt({CIRCLE: 3})),
        ("Three  RED circles", prompt({CIRCLE: 3})),
        ("a red circle", prompt({CIRCLE: 1})),
        ("2 blue squares and 1 green triangle", prompt({SQUARE: 2, TRIANGLE: 1})),
        ("1 green triangle, two blue squares", prompt({SQUARE: 2, TRIANGLE: 1})),
        ("a red circle left of a blue square", prompt({CIRCLE: 1, SQUARE: 1}, (CIRCLE, SQUARE))),
        ("a red circle to the right of a blue square", prompt({CIRCLE: 1, SQUARE: 1}, (SQUARE, CIRCLE))),
        (
            "3 green triangles and a red circle left of one blue square",
            prompt({CIRCLE: 1, SQUARE: 1, TRIANGLE: 3}, (CIRCLE, SQUARE)),
        ),
    ],
)
def test_text_is_read(text, expected):
    assert parse(text) == expected
    assert as_prompt(text) == expected


def test_prompts_read_back_as_they_are_written():
    for original in random_prompts(300, seed=0):
        assert parse(str(original)) == original


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3 rde circles", r"unknown colour 'rde'\. Did you mean 'red'"),
        ("3 red cirlces", r"unknown shape 'cirlce'\. Did you mean 'circle'"),
        ("thre red circles", r"'thre' is no number\. Did you mean 'three'"),
        ("²  red circles", "'²' is no number"),
        ("6 red circles", "1 to 5 objects, not 6"),
        ("0 red circles", "1 to 5 objects, not 0"),
        ("3 red circles and 3 blue squares", "1 to 5 objects.*has 6"),
        ("red circles", "'red circles' is no number, colour and shape; write for example"),
        ("", "no number, colour and shape"),
        ("1 red circle and 2 red circles", "names red circle twice"),
        ("2 red circles left of a blue square", "counted 2 and 1 times"),
        ("a red circle left of a red circle", "names red circle twice"),
        ("a red circle left of a blue square left of a green circle", "more than one relation"),
    ],
)
def test_what_is_no_prompt_is_said(text, said):
    with pytest.raises(ConfigError, match=said):
        parse(text)


def test_prompts_that_no_scene_satisfies_are_refused():
    for counts, relation in [((0,) * 12, None), ((-1, 2) + (0,) * 10, None), ((1,), None)]:
        with pytest.raises(ConfigError):
            Prompt(counts, relation)
    with pytest.raises(ConfigError, match="one object of one kind"):
        prompt({CIRCLE: 1}, (CIRCLE, SQUARE))


def test_encoding_holds_counts_sides_and_presence():
    rows = encode([parse("a red circle right of a blue square and 3 green triangles"), None])
    assert rows.shape == (2, 37)
    assert rows[1].abs().sum() == 0
    counts, left, right, is_given = rows[0].split([12, 12, 12, 1])
    assert counts.tolist() == list(prompt({CIRCLE: 1, SQUARE: 1, TRIANGLE: 3}).counts)
    assert (left.argmax().item(), right.argmax().item()) == (SQUARE, CIRCLE)
    assert (left.sum().item(), right.sum().item(), is_given.item()) == (1, 1, 1)


def test_different_prompts_have_different_encodings():
    distinct = list(dict.fromkeys(random_prompts(500, seed=1)))
    assert len(distinct) > 200
    assert len(encode(distinct).unique(dim=0)) == len(distinct)


def test_benchmark_prompts_are_distinct_and_belong_to_their_group():
    assert len(BENCHMARK_PROMPTS) == 30
    assert len({parse(text) for text in BENCHMARK_PROMPTS}) == 30
    for group, texts in BENCHMARK.items():
        for one in map(parse, texts):
            assert (one.relation is not None) == (group == "relation")
            assert (max(one.counts) == sum(one.counts)) == (group == "quantity")


def test_number_stands_for_a_benchmark_prompt():
    assert as_prompt(7) == parse(BENCHMARK_PROMPTS[7])
    assert as_prompt(as_prompt(7)) == as_prompt(7)


@pytest.mark.parametrize("condition", [30, -1, True, 1.0, None, ["3 red circles"]])
def test_other_conditions_are_refused(condition):
    with pytest.raises(ConfigError, match="is no prompt; write for example"):
        as_prompt(condition)
