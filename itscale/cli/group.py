"""How every command starts and ends: close matches for unknown commands, errors, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from itscale.cli.failures import report_failure
from itscale.errors import unknown_name


class Group(TyperGroup):
    """The group of all commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command, or name the close ones."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown_name("command", args[0], self.list_commands(ctx), "itscale --help")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit: 0 done, 1 failed, 2 usage, 3 partly failed, 130 interrupted."""
        words, debug = _take_debug(sys.argv[1:] if args is None else args)
        try:
            words, prog_name = words or ["--help"], prog_name or "itscale"
            done = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
            code = done if isinstance(done, int) else 0
        except (Exception, KeyboardInterrupt) as error:
            code = report_failure(error, debug)
        if standalone_mode:
            sys.exit(code)
        return code


def _take_debug(args: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out, wherever it stands before a ``--``."""
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end
