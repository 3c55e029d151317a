"""Conditions of a researcher's own network: numbers or tensors of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError


def stack_conditions(
    conditions: Sequence[Any], takes_them: bool, null_condition: Any, call: str, wrap: str
) -> Tensor | None:
    """Stack numbers or tensors to ``(g, ...)``; ``None`` becomes ``null_condition``.

    Args:
        conditions: one per group.
        takes_them: whether the network is conditional; if not, the result is None.
        null_condition: what the network takes for "none", or None.
        call: how a conditional network is called, for a message.
        wrap: the function that wrapped the network, for a message.

    Raises:
        ConfigError: for a condition without ``conditional=True``, for ``None`` without ``null_condition``,
            and for conditions that do not stack.
    """
    if not takes_them:
        for condition in conditions:
            if condition is not None:
                raise ConfigError(
                    f"condition {condition!r} was given, but the wrapped network takes none; "
                    f"wrap it with conditional=True if it is called as {call}"
                )
        return None
    filled = [null_condition if condition is None else condition for condition in conditions]
    if any(condition is None for condition in filled):
        raise ConfigError(
            "condition None (unconditional, which guidance also needs) has no encoding; "
            f"pass a condition, or {wrap}(..., null_condition=...) with what the network takes for 'none'"
        )
    try:
        return torch.stack([torch.as_tensor(condition) for condition in filled])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"conditions must be numbers or tensors of one shape, got {[shortly(c) for c in filled]}: {error}"
        ) from error


def shortly(value: Any) -> str:
    """A value in a few words: the shape of a tensor, the type and the beginning of anything else."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r:.60}"
