"""``itscale report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.output import print_line, stdout_kept_clean


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
) -> None:
    """Write the report of one or more runs: one HTML page that needs no network."""
    from itscale import runs

    with stdout_kept_clean():
        page = runs.report(folders)
    print_line(str(page))
