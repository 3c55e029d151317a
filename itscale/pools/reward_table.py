"""Rewards that pools offer by name, as ``itscale.rewards`` offers its own."""

from __future__ import annotations

from typing import Any, NamedTuple


class BuiltIn(NamedTuple):
    """One reward: ``module:class``, facts about it, and files that it needs, as in ``itscale.rewards``."""

    target: str
    facts: dict[str, Any]
    weights: tuple[Any, ...] = ()


BUILT_IN = {
    "pooled": BuiltIn(
        "itscale.pools.reward_actors:Pooled",
        {
            "doc": "another reward, scored by workers of their own on a cluster",
            "modality": "any",
            "range": (None, None),
            "licence": "that of the reward",
        },
    )
}
