"""The shapes and dtypes of signatures as checks; what else an annotation says is left to pyright.

Wrong types are what itscale's own messages are for, and protocols are not checked at run time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import beartype

_jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """Check the arrays of every function and dataclass of itscale that is imported from now on."""
    jaxtyping.jaxtyped = _where_arrays_are
    jaxtyping.install_import_hook("itscale", f"{__name__}.checked")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arrays among a function's annotations, which jaxtyping hands over resolved."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint if _has_array(hint) else Any for name, hint in hints.items()}
    return beartype(function) if any(map(_has_array, hints.values())) else function


def _where_arrays_are(*, typechecker: Any) -> Callable[[Any], Any]:
    """jaxtyping's decorator for what mentions an array: a wrapped call costs as much as a small operation."""
    return lambda target: _jaxtyped(target, typechecker=typechecker) if _mentions_array(target) else target


def _mentions_array(target: Any) -> bool:
    function = getattr(target, "__func__", getattr(target, "fget", target))
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (AttributeError, NameError, TypeError):  # names for type checkers only, which jaxtyping skips too
        return False
    return any(map(_has_array, hints.values()))


def _has_array(hint: Any) -> bool:
    is_array = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(map(_has_array, get_args(hint)))
