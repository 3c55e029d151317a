"""``itscale check-reward``."""

from __future__ import annotations

from typing import Annotated

import typer

from itscale.cli.failures import FAILED
from itscale.cli.output import print_line, print_table, stdout_kept_clean


def check_reward(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help='A name, an expression ("0.5 * symmetry + ink"), module:attribute or ./file.py:name.',
        ),
    ],
) -> None:
    """Try the promises of a reward on four synthetic samples: shape, order, batches, gradient."""
    from itscale.scoring import as_reward
    from itscale.scoring import check_reward as run_checks

    with stdout_kept_clean():
        reward = as_reward(name)
        results = run_checks(reward)
    rows = [(r.name, "pass" if r.passed else "FAIL", r.detail) for r in results]
    print_table(("check", "", "seen"), rows, f"{reward.name} ({reward.spec.modality})")
    failed = sum(not r.passed for r in results)
    print_line(f"{len(results) - failed} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(FAILED)
