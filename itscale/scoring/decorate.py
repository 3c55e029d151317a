"""``@reward``: state the facts of a reward where it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, overload

from itscale.errors import ConfigError, unknown_name
from itscale.scoring.composable import add_arithmetic
from itscale.scoring.protocol import Reward
from itscale.scoring.spec import RewardSpec

Class = TypeVar("Class", bound=type)
FACTS_ATTRIBUTE = "__reward_facts__"


@overload
def reward(target: Class, /) -> Class: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def reward(target: Callable[..., Any], /) -> Reward: ...
@overload
def reward(**facts: Any) -> Callable[[Any], Any]: ...
def reward(target: Any = None, /, **facts: Any) -> Any:
    """Turn a function into a ``Reward``, or give a class with ``__call__`` the facts of one.

    A decorated function can still be called as before. The instances of a decorated class take part
    in arithmetic (``0.5 * Sharpness(radius=2) + other``). Facts are the fields of ``RewardSpec``;
    name and documentation come from the target, the modality from the name of its parameter
    (``images``, ``smiles``, ``texts``).

    Example:
        >>> import torch
        >>> @reward(name="redness", modality="image", differentiable=True)
        ... def redness(images, prompts=None):
        ...     return images[:, 0].mean((1, 2))
        >>> redness(torch.ones(2, 3, 4, 4))
        tensor([1., 1.])
        >>> 0.5 * redness - 1
        <reward 0.5 * redness - 1>

    Raises:
        ConfigError: for a fact that does not exist, or a function that cannot be a reward.
    """
    known = [field.name for field in fields(RewardSpec)]
    for fact in facts:
        if fact not in known:
            raise unknown_name("fact of a reward", fact, known)
    if target is None:
        return lambda decorated: reward(decorated, **facts) if facts else reward(decorated)
    if isinstance(target, type):
        facts.setdefault("name", target.__name__)
        facts.setdefault("doc", (target.__doc__ or "").strip().split("\n")[0])
        RewardSpec(**facts)
        setattr(target, FACTS_ATTRIBUTE, facts)
        add_arithmetic(target)
        return target
    if not callable(target):
        raise ConfigError(f"@reward goes on a function or a class, got {target!r}; name it with name=...")
    return Reward.of(target, **facts)
