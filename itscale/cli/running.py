"""``itscale run`` and ``itscale demo``, and how any command runs a configuration."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itscale.cli.early import ending_early
from itscale.cli.failures import INTERRUPTED
from itscale.cli.output import console, note, print_json, print_line, stdout_kept_clean

if TYPE_CHECKING:
    from itscale.runs import RunSummary

Source = Annotated[str, typer.Argument(metavar="RECIPE|FILE.yaml", help="A recipe's name or a file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings laid over it, e.g. run.steps=50.", show_default=False
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="outputs/NAME-TIME-HASH")]
Resume = Annotated[bool, typer.Option("--resume", help="Skip the cells that are done in the folder.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print settings, origins and costs, and stop.")]
Pool = Annotated[
    str | None,
    typer.Option(
        "--pool",
        metavar="local|ray|ADDRESS",
        help="Where particles are: this process, processes of a Ray of its own, or a cluster's.",
        show_default="of the configuration",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]


def run(
    source: Source,
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    pool: Pool = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run a recipe or a configuration file into a folder of its own."""
    overrides = [*(overrides or []), *pool_overrides(pool)]
    with ending_early():
        execute(Work(source, overrides, out, resume, dry_run, as_json, ["run", source]))


def demo(
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    pool: Pool = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run the recipe 'quickstart': steer handwritten digits, on a CPU, without a network."""
    overrides = [*(overrides or []), *pool_overrides(pool)]
    with ending_early():
        execute(Work("quickstart", overrides, out, resume, dry_run, as_json, ["demo"]))


def pool_overrides(pool: str | None) -> list[str]:
    """Settings that ``--pool`` stands for; where a run is computed is no part of what it is."""
    if pool is None:
        return []
    if pool == "local":
        return ["pool.name=local"]
    from itscale.pools import session

    session.load_ray()
    if pool == "ray":
        return ["pool.name=ray"]
    if pool != "auto":
        session.check_answer(pool)  # before anything is computed
    return ["pool.name=ray", f"pool.address={pool}"]


@dataclass(frozen=True)
class Work:
    """What a command that runs something was asked for.

    Attributes:
        command: the words that stand between ``itscale`` and the overrides.
        is_sweep: an override may list several values.
    """

    source: str
    overrides: list[str]
    out: Path | None
    resume: bool
    dry_run: bool
    as_json: bool
    command: list[str]
    is_sweep: bool = False


def execute(work: Work, options: Sequence[str] = (), **how: Any) -> None:
    """Plan or run, print what came out, and exit with the run's code.

    Args:
        work: what was asked for.
        options: more words for the command that goes on after an interrupt.
        how: more arguments of ``runs.run``.
    """
    from itscale import runs
    from itscale.cli.planning import print_plan
    from itscale.cli.progress import Reporter

    with stdout_kept_clean():
        config = runs.load_config(work.source, work.overrides, sweep=work.is_sweep)
        plan = runs.plan(config) if work.dry_run else None
    if plan is not None:
        print_plan(config, plan, work.as_json)
        return
    with stdout_kept_clean(), Reporter() as listen:
        summary = runs.run(config, out=work.out, resume=work.resume, on_event=listen, **how)
    page = _report(summary)
    if work.as_json:
        print_json(_document(summary, page))
    else:
        _print_summary(summary, page)
    if summary.exit_code == INTERRUPTED:
        again = [
            "itscale",
            *work.command,
            *work.overrides,
            *options,
            "--out",
            str(summary.folder),
            "--resume",
        ]
        note(f"interrupted; what is finished is kept. Go on with:\n{shlex.join(again)}")
    raise typer.Exit(summary.exit_code)


def _report(summary: RunSummary) -> Path | None:
    """Write the report of a run that came to an end."""
    from itscale import runs

    if not summary.rows or summary.interrupted:
        return None
    try:
        with stdout_kept_clean():
            return runs.report([summary.folder])
    except Exception as error:  # whatever plots raise must not cost the results, which are complete
        note(f"no report: {error}\n'itscale report {summary.folder} --debug' shows why")
        return None


def _print_summary(summary: RunSummary, page: Path | None) -> None:
    from itscale import runs

    if summary.rows:
        console(sys.stdout).print(runs.summary_table(summary))
    print_line(f"{len(summary.rows)} of {summary.cells} cells done in {summary.folder}")
    for cell in summary.failed:
        print_line(f"failed: {cell['label']}: {cell['error']}")
    if page is not None:
        print_line(f"report: {page}")


def _document(summary: RunSummary, page: Path | None) -> dict[str, Any]:
    from itscale.runs.records import clean

    return clean(
        {
            "folder": str(summary.folder),
            "report": None if page is None else str(page),
            "cells": summary.cells,
            "rows": summary.rows,
            "failed": summary.failed,
            "interrupted": summary.interrupted,
            "exit_code": summary.exit_code,
        }
    )
