"""``itscale cluster``: files that start clusters."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.failures import FAILED
from itscale.cli.output import print_json, print_line, print_table

cluster = typer.Typer(help="Look after files that start clusters.", no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of ray up, KubeRay or SLURM.")]


@cluster.callback()
def _cluster() -> None:
    """Keep ``check`` a command of its own."""


@cluster.command("check")
def check(
    files: Files,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """Check files against schemas and rules of security, without a network; fails if something is wrong."""
    from itscale.clusters import check_text, kind_of
    from itscale.errors import ConfigError

    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        kind = kind_of(text, path.name)
        found.append((path, kind, check_text(text, path.name)))
    if as_json:
        print_json([{"file": str(p), "kind": k, "problems": [asdict(x) for x in xs]} for p, k, xs in found])
    for path, kind, problems in () if as_json else found:
        print_line(f"{path}: {kind}, {len(problems)} problems" if problems else f"{path}: {kind}, ok")
        if problems:
            print_table(("rule", "where", "what"), [(x.rule, x.place, x.what) for x in problems])
    if any(problems for _, _, problems in found):
        raise typer.Exit(FAILED)
