"""What the model and the rewards take as a condition."""

from __future__ import annotations

import operator
from typing import Any

from itscale.errors import ConfigError
from itscale.scenes.benchmark import BENCHMARK_PROMPTS
from itscale.scenes.prompts import EXAMPLE, Prompt, parse


def as_prompt(condition: Any) -> Prompt:
    """Return the prompt of a text, of a whole number (its place in ``BENCHMARK_PROMPTS``), or itself.

    Raises:
        ConfigError: for what is none of these, or a text that ``parse`` does not understand.
    """
    if isinstance(condition, Prompt):
        return condition
    if isinstance(condition, str):
        return parse(condition)
    try:
        place = -1 if isinstance(condition, bool) else operator.index(condition)
    except TypeError:
        place = -1
    if place not in range(len(BENCHMARK_PROMPTS)):
        raise ConfigError(
            f"condition {condition!r} is no prompt; {EXAMPLE}, or give a number below "
            f"{len(BENCHMARK_PROMPTS)} for a benchmark prompt"
        )
    return parse(BENCHMARK_PROMPTS[place])
