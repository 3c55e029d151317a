"""What an error becomes: three short lines on stderr (what, why, what to do) and an exit code."""

from __future__ import annotations

import re
import sys
import traceback

from itscale.errors import (
    BudgetError,
    ConfigError,
    ItscaleError,
    MissingExtra,
    NonFiniteState,
    PoolError,
    RewardError,
    UnknownName,
)

FAILED, USAGE, INTERRUPTED = 1, 2, 130

_KINDS: tuple[tuple[type[BaseException], str, str], ...] = (
    (UnknownName, "no table lists this name", "'itscale --help' shows the commands that list names"),
    (BudgetError, "the budget does not pay for this run", "raise run.budget, or lower particles or steps"),
    (ConfigError, "this setting cannot work", "change it; 'itscale run ... --dry-run' shows all settings"),
    (MissingExtra, "an optional package is not installed", "'itscale doctor' shows what to install"),
    (RewardError, "the reward broke its contract", "'itscale check-reward NAME' shows where"),
    (NonFiniteState, "the states left the range of their dtype", "use more steps, or a smaller tilt"),
    (PoolError, "the cluster could not be used", "'itscale doctor --ray' shows what it can do"),
    (ItscaleError, "the run cannot go on", "run again with --debug for the traceback"),
    (BaseException, "itscale did not expect this", "run again with --debug for the traceback"),
)
# The end of a sentence or a semicolon; "e.g. this" does not count.
_BREAK = re.compile(r"(?<!e\.g)(?<!i\.e)[.;](?:\s+|$)")


def report_failure(error: BaseException, debug: bool = False) -> int:
    """Print an error to stderr and return the exit code it stands for.

    Args:
        error: whatever a command raised.
        debug: print the traceback first.
    """
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    what, why, do = three_lines(error)
    print(f"error: {what}\nwhy:   {why}\ndo:    {do}", file=sys.stderr)
    return exit_code(error)


def exit_code(error: BaseException) -> int:
    """2 for what the user asked for, 1 for what went wrong on the way."""
    if isinstance(error, ConfigError | MissingExtra) or _is_usage(error):
        return USAGE
    return FAILED


def three_lines(error: BaseException) -> tuple[str, str, str]:
    """Split an error into what happened, why, and what to do."""
    if _is_usage(error):
        command = getattr(getattr(error, "ctx", None), "command_path", None) or "itscale"
        text = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        return text.rstrip("."), "the command line cannot be read", f"'{command} --help' shows the usage"
    why, advice = next((why, do) for kind, why, do in _KINDS if isinstance(error, kind))
    text = " ".join(str(error).split())
    if not isinstance(error, ItscaleError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return text, why, advice
    what, rest = _split(text)
    return what, why, rest or advice


def _split(text: str) -> tuple[str, str]:
    """Split a message after its first sentence, or else at its last colon."""
    if found := _BREAK.search(text):
        return text[: found.start()], text[found.end() :]
    what, colon, rest = text.rpartition(": ")
    return (what, rest) if colon else (text, "")


def _is_usage(error: BaseException) -> bool:
    """Whether typer (or the click that it is built on, whichever that is) could not read the command line."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")
