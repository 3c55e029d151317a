"""Prompts and what conditions say beside them reach rewards from one place."""

from __future__ import annotations

import torch

from itscale.scoring.facts import complete_facts, meta_of, text_of


def test_a_condition_is_a_text_or_holds_one():
    assert text_of("a cat") == text_of({"prompt": "a cat", "tag": "count"}) == "a cat"
    assert text_of(7) is text_of(None) is text_of({"tag": 1}) is None
    assert meta_of({"prompt": "a cat", "tag": "count"}) == {"tag": "count"}
    assert meta_of("a cat") == {}


def test_conditions_stand_in_for_what_is_not_given():
    conditions = [{"prompt": "a cat", "tag": "count"}, "two dogs", None]
    facts = complete_facts({"conditions": conditions}, 3)
    assert facts["prompts"] == ["a cat", "two dogs", None]
    assert facts["meta"] == [{"tag": "count"}, {}, {}]
    given = complete_facts({"conditions": conditions, "prompts": "fog", "meta": {"tag": 1}}, 3)
    assert given["prompts"] == ["fog"] * 3
    assert given["meta"] == [{"tag": 1}] * 3


def test_classes_say_nothing():
    assert complete_facts({"conditions": [1, 2]}, 2) == {"conditions": [1, 2]}
    assert set(complete_facts({"conditions": torch.zeros(2)}, 2)) == {"conditions"}
