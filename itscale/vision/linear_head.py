"""The head of ImageReward and of the aesthetic predictor: linear layers after one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from itscale.errors import ConfigError
from itscale.vision.states import fill

WIDTHS = (1024, 128, 64, 16, 1)
DROPOUTS = {0: 0.2, 1: 0.2, 2: 0.1}
"""Share that is dropped after a layer in training; the published files count these layers in their names."""


def linear_head(state: Mapping[str, Tensor], source: Any) -> nn.Sequential:
    """Five linear layers ``[m, d] -> [m, 1]`` with no activation between them, as published.

    Args:
        state: names such as ``0.weight``; ``d`` follows from them.
        source: where they come from, for the message.

    Raises:
        ConfigError: if they do not fit.
    """
    if "0.weight" not in state:
        raise ConfigError(f"{source} holds no linear head; its names start with {', '.join(list(state)[:3])}")
    inputs = state["0.weight"].shape[1]
    layers: list[nn.Module] = []
    for i, outputs in enumerate(WIDTHS):
        layers.append(nn.Linear(inputs, outputs))
        if i in DROPOUTS:
            layers.append(nn.Dropout(DROPOUTS[i]))
        inputs = outputs
    head = nn.Sequential(*layers)
    fill(head, state, source)
    return head
