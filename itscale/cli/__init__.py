"""The command line ``itscale``: one file per group of commands, imports inside the commands."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    from itscale.allocator import keep_freed_memory
    from itscale.cli.app import app

    keep_freed_memory()
    app()
