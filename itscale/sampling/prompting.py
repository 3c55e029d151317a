"""Rewards that compare samples with a text, against what the groups of a run are conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itscale.errors import ConfigError
from itscale.scoring import Reward
from itscale.scoring.facts import text_of


def check_prompts(conditions: Sequence[Any], **rewards: Reward | None) -> None:
    """Raise if a reward needs a text and a group has none, before any network call.

    Args:
        conditions: one per group.
        rewards: by what they are for, such as ``reward`` and ``held_out``.
    """
    for which, reward in rewards.items():
        if reward is None or not reward.spec.needs_prompt:
            continue
        for condition in conditions:
            if text_of(condition) is None:
                raise ConfigError(
                    f"{which} {reward.name!r} compares samples with a text, and a group has the condition "
                    f"{str(condition)[:60]}; condition the run on texts, or give the reward a prompt of its "
                    "own, as in clip-score(prompt='...')"
                )
