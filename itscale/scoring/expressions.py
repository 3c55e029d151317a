"""Rewards written as text: names, literals, calls and ``+ - * /``, read by ``ast`` and never evaluated."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from itscale.errors import ConfigError
from itscale.scoring import composable, names
from itscale.scoring.convert import as_reward, build
from itscale.scoring.protocol import Reward

LONGEST = 2000
FUNCTIONS: dict[str, Callable[..., Reward]] = {
    "log": composable.log,
    "minimum": composable.minimum,
    "geometric_mean": composable.geometric_mean,
    "clip": lambda reward, low=None, high=None: as_reward(reward).clip(low, high),
    "standardise": lambda reward, mean, std: as_reward(reward).standardise(mean, std),
    "gate": lambda reward, condition, otherwise=-float("inf"): as_reward(reward).gate(condition, otherwise),
}
OPERATORS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}
QUOTED_OR_NAME = re.compile(r"'[^']*'|\"[^\"]*\"|[A-Za-z_][\w-]*")


def read(text: str, arguments: Mapping[str, Any] | None = None) -> Reward:
    """Make the reward that a string describes.

    Args:
        text: a name, ``module:attribute`` or ``file.py:attribute`` (each may be called with
            arguments), the address of a server, or an expression over names.
        arguments: given beside a single name, as in a mapping.

    Raises:
        ConfigError: for what is no expression, or contains more than names, literals, calls and
            ``+ - * /``.
        UnknownName: for a name that nothing offers.
    """
    text = text.strip()
    if text.startswith(("http://", "https://")):
        return build(names.load("http"), "http", (), {"url": text, **(arguments or {})})
    reference = names.split_reference(text)
    if reference is not None:
        where, call = reference
        positional, given = _arguments(call, text) if call else ([], {})
        return build(names.load_reference(where), where, positional, {**given, **(arguments or {})})
    if names.is_known(text):
        return build(names.load(text), names.canonical(text), (), arguments)
    if arguments or names.is_plain(text):
        raise names.unknown(text)
    return _read_expression(text)


def _read_expression(text: str) -> Reward:
    if len(text) > LONGEST:
        raise ConfigError(
            f"a reward expression of {len(text)} characters is too long; write a function instead"
        )
    try:
        tree = ast.parse(_join_hyphens(text), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise names.unknown(text) from error
    value = _value(tree.body, text)
    if not isinstance(value, Reward):
        raise ConfigError(f"the expression {text!r} is a number, not a reward; name at least one reward")
    return value


def _value(node: ast.expr, text: str) -> Any:
    """The number or reward that a node stands for."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left, text), _value(node.right, text)
        try:
            return OPERATORS[type(node.op)](left, right)
        except (TypeError, ZeroDivisionError) as error:
            raise _refusal(node, text, "cannot be computed") from error
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand, text)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Name):
        return build(names.load(node.id), names.canonical(node.id))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id, text)
    raise _refusal(node, text, "is not allowed")


def _call(node: ast.Call, name: str, text: str) -> Reward:
    if name not in FUNCTIONS:
        positional, arguments = _literals(node, text)
        return build(names.load(name), names.canonical(name), positional, arguments)
    values = [_value(argument, text) for argument in node.args]
    options = {
        k.arg: _literal(k.value, text)
        if isinstance(k.value, (ast.List, ast.Tuple))
        else _value(k.value, text)
        for k in node.keywords
        if k.arg is not None
    }
    try:
        return FUNCTIONS[name](*values, **options)
    except TypeError as error:
        raise ConfigError(f"{name} in the reward {text!r}: {error}") from error


def _arguments(call: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in ``(...)`` after a reference."""
    try:
        node = ast.parse(f"f{call}", mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise names.unknown(text) from error
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise _refusal(node, text, "is not allowed after a reference")
    return _literals(node, text)


def _literals(node: ast.Call, text: str) -> tuple[list[Any], dict[str, Any]]:
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise _refusal(keyword.value, text, "cannot be spread with **")
        arguments[keyword.arg] = _literal(keyword.value, text)
    return [_literal(argument, text) for argument in node.args], arguments


def _literal(node: ast.expr, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise _refusal(node, text, "is not a literal (number, string, True, None, list)") from error


def _refusal(node: ast.expr, text: str, why: str) -> ConfigError:
    return ConfigError(
        f"{ast.unparse(node)!r} in the reward {text!r} {why}; "
        "use names, literals, calls and + - * / only, or put the rest into a function of your own"
    )


def _join_hyphens(text: str) -> str:
    """Write known names with underscores, so that ``jpeg-compressibility`` is no subtraction."""

    def join(match: re.Match[str]) -> str:
        word = match.group()
        known = "-" in word and word[0] not in "'\"" and names.is_known(word)
        return word.replace("-", "_") if known else word

    return QUOTED_OR_NAME.sub(join, text)
