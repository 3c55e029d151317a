"""Groups, conditions and initial noise as a user gives them, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.patterns import read_pattern


def group_indices(groups: int | Sequence[int]) -> Tensor:
    """Return the absolute indices of the groups, (g,) int64."""
    listed = range(groups) if isinstance(groups, int) else groups
    ids = list(listed) if isinstance(listed, Iterable) else []
    if not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise ConfigError(f"groups must be a count >= 1 or a list of indices >= 0, got {groups!r}")
    if len(set(ids)) != len(ids):
        raise ConfigError(f"groups holds an index twice: {groups!r}")
    return torch.tensor(ids, dtype=torch.int64)


def one_per_group(condition: Any, groups: int) -> list[Any]:
    """Return one condition for each group."""
    if not isinstance(condition, list | tuple):
        return [condition] * groups
    if len(condition) != groups:
        raise ConfigError(
            f"condition has {len(condition)} entries for {groups} groups; give one each, or a single one"
        )
    return list(condition)


def initial_size(initial: Tensor, n: int | None, particles: int | None, method: Any) -> int | None:
    """Unless a number is given, there are as many particles as initial noises."""
    is_given = n is not None or particles is not None or getattr(method, "particles", None) is not None
    return n if is_given or initial.ndim < 2 else initial.shape[1]


def check_initial(initial: Tensor | None, groups: int, n: int, event: Sequence[int]) -> None:
    """Raise unless there is one unit noise per particle."""
    if initial is not None and tuple(initial.shape) != (groups, n, *event):
        raise ConfigError(
            f"initial must be unit noise of shape (groups, particles, *event) = {(groups, n, *event)}, "
            f"got {tuple(initial.shape)}"
        )


def token_template(model: Any, initial: Any, groups: int) -> Int64[Tensor, "groups length"]:
    """Return the tokens that sequences of every group begin with.

    Args:
        initial: tokens (length,) or (groups, length), as a tensor or lists; or patterns, one or one a group.

    Raises:
        ConfigError: for tokens that the model does not know, or another length than its own.
    """
    space, length, given = model.tokens, model.event_shape[0], initial
    if isinstance(initial, str):
        given = read_pattern(model, initial)
    elif isinstance(initial, list | tuple) and initial and all(isinstance(row, str) for row in initial):
        given = torch.stack([read_pattern(model, row) for row in initial])
    elif not isinstance(initial, Tensor):
        try:
            given = torch.tensor(initial)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"initial must be token numbers or patterns, got {initial!r}") from error
    space.check(given, length, "initial")
    if given.ndim > 2 or (given.ndim == 2 and len(given) != groups):
        raise ConfigError(
            f"initial of a masked model must be tokens (length,) or (groups, length), {(groups, length)}, "
            f"got {tuple(given.shape)}"
        )
    return given.cpu().expand(groups, length).to(torch.int64)
