"""``as_reward``: one door for everything that a person may give as a reward."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from itscale.errors import ConfigError, unknown_name
from itscale.scoring.cache import Cached
from itscale.scoring.decorate import FACTS_ATTRIBUTE
from itscale.scoring.leaf import FunctionLeaf
from itscale.scoring.protocol import Reward
from itscale.scoring.spec import RewardSpec


def as_reward(given: Any) -> Reward:
    """Make a ``Reward`` of a reward, function, object, class, string, mapping, or a list of those.

    Strings: a built-in name or one that an installed package offers (``"symmetry"``), an expression
    (``"symmetry(axis='v') * 0.5 - 0.2 * ink"``), ``"module:attribute"``, ``"./file.py:attribute"``,
    ``"http://host:port"``.
    Mappings: ``{"name": ..., "weight": 0.5, **arguments}``. A list is the (weighted) sum.

    Raises:
        ConfigError: for names, arguments or objects that cannot be a reward, saying what is near.
    """
    if isinstance(given, Reward):
        return given
    if isinstance(given, Cached):
        return Reward(given.spec, leaf=given)
    if isinstance(given, str):
        from itscale.scoring import expressions  # which comes back here for the names it contains

        return expressions.read(given)
    if isinstance(given, Mapping):
        return _from_mapping(given)
    if isinstance(given, Sequence):
        if not given:
            raise ConfigError("an empty list is no reward; leave the reward out, or name at least one")
        rewards = [as_reward(one) for one in given]
        return sum(rewards[1:], rewards[0])
    if isinstance(given, type):
        return build(given, given.__name__)
    if callable(given):
        return _from_callable(given)
    raise ConfigError(
        f"cannot make a reward of {given!r} ({type(given).__name__}); give a function of samples, "
        "a built-in name, 'module:attribute', './file.py:attribute', a mapping with a name, or a list"
    )


def build(
    target: Any, name: str, positional: Sequence[Any] = (), arguments: Mapping[str, Any] | None = None
) -> Reward:
    """Make a reward of what a name stands for, with the arguments given to it.

    Args:
        target: a class, which is instantiated; a function or reward, whose options are bound; or
            anything that ``as_reward`` takes, without arguments.
        name: what the user called it.
        positional: arguments by position, for classes.
        arguments: arguments by name.

    Raises:
        ConfigError: for arguments that it does not take, or lacks.
    """
    arguments = dict(arguments or {})
    if isinstance(target, type):
        bound = _bind(target, name, positional, arguments)
        return _from_callable(target(**bound), name, bound)
    if positional:
        raise ConfigError(f"reward {name!r}: give its arguments by name, not {positional[0]!r} alone")
    if not arguments:
        return as_reward(target)
    if isinstance(target, Reward) and isinstance(target.leaf, FunctionLeaf):
        function, spec = target.leaf.function, target.spec
    elif inspect.isfunction(target):
        function, spec = target, None
    else:
        raise ConfigError(f"reward {name!r} takes no arguments, got {', '.join(arguments)}; remove them")
    label = label_of(spec.name if spec else name, arguments)
    return Reward.of(function, spec=spec, label=label, options=arguments)


def label_of(name: str, arguments: Mapping[str, Any]) -> str:
    """``name(argument=value)``, or the bare name; arrays and other objects show as ``...``."""
    shown = {key: repr(value) if _is_plain(value) else "..." for key, value in arguments.items()}
    inside = ", ".join(f"{key}={value}" for key, value in shown.items())
    return f"{name}({inside})" if inside else name


def _from_mapping(given: Mapping[str, Any]) -> Reward:
    arguments = dict(given)
    if "name" not in arguments:
        raise ConfigError(f"a reward given as a mapping needs a 'name', got {sorted(map(str, arguments))}")
    name, weight = arguments.pop("name"), arguments.pop("weight", 1)
    if not isinstance(weight, Real) or isinstance(weight, bool):
        raise ConfigError(f"reward {name!r}: weight is {weight!r}; give a number")
    if isinstance(name, str):
        from itscale.scoring import expressions

        made = expressions.read(name, arguments)
    else:
        made = build(name, getattr(name, "__name__", type(name).__name__), (), arguments)
    return made if weight == 1 else made * float(weight)


def _from_callable(given: Any, name: str | None = None, arguments: Mapping[str, Any] | None = None) -> Reward:
    if isinstance(given, (Reward, Cached)):
        return as_reward(given)
    if not callable(given):
        raise ConfigError(f"{type(given).__name__} has no __call__, so it cannot score samples; add one")
    stated = getattr(given, "spec", None)
    facts = getattr(type(given), FACTS_ATTRIBUTE, None)
    if isinstance(stated, RewardSpec):
        spec = stated
    elif facts is not None:
        spec = RewardSpec(**facts)
    else:
        return Reward.of(given, label=label_of(name, arguments) if name and arguments else None)
    is_dataclass = dataclasses.is_dataclass(given)  # named, so that a type checker does not narrow ``given``
    shown = _changed_fields(given) if is_dataclass else arguments or {}
    return Reward.of(given, spec=spec, label=label_of(spec.name, shown))


def _changed_fields(given: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults and that a name should show."""
    changed = {}
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        if field.init and field.repr and (not _is_plain(value) or value != field.default):
            changed[field.name] = value
    return changed


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, tuple, list))


def _bind(target: type, name: str, positional: Sequence[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a class by name, checked against its constructor."""
    parameters = inspect.signature(target).parameters
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [n for n, p in parameters.items() if p.kind not in variable]
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if len(positional) > len(names):
        raise ConfigError(f"reward {name!r} takes {len(names)} arguments, got {len(positional)}")
    bound = dict(zip(names, positional, strict=False))
    for key, value in arguments.items():
        if key not in names and not anything:
            raise unknown_name(f"argument of reward {name!r}:", key, names)
        if key in bound:
            raise ConfigError(f"reward {name!r} got argument {key!r} twice; give it once")
        bound[key] = value
    missing = [n for n in names if n not in bound and parameters[n].default is inspect.Parameter.empty]
    if missing:
        example = ", ".join(f"{n}=..." for n in missing)
        raise ConfigError(f"reward {name!r} needs {', '.join(missing)}; write {name}({example})")
    return bound
