"""``itscale verify``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from itscale.cli.failures import FAILED
from itscale.cli.output import print_json, print_line, print_table, stdout_kept_clean
from itscale.errors import ConfigError


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer problems and repetitions.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Everything, with small standard errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """Compare every method with exact answers: expectations, evidence, mode weights."""
    if quick and full:
        raise ConfigError("--quick and --full exclude each other; give one of them")
    from itscale.runs.records import clean
    from itscale.verify import run_battery

    with stdout_kept_clean():
        checks = run_battery(quick=quick, full=full)
    failed = sum(not c.passed for c in checks)
    if as_json:
        print_json(
            clean({"checks": [asdict(c) for c in checks], "passed": len(checks) - failed, "failed": failed})
        )
    else:
        rows = [
            (
                c.method,
                c.quantity,
                float(c.value),
                float(c.truth),
                float(c.standard_error),
                float(c.tolerance),
                "pass" if c.passed else "FAIL",
            )
            for c in checks
        ]
        print_table(("method", "quantity", "value", "truth", "standard error", "tolerance", ""), rows)
        print_line(f"{len(checks) - failed} of {len(checks)} checks passed")
    if failed:
        raise typer.Exit(FAILED)
