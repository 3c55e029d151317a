"""``itscale compare``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from itscale.cli.output import print_json, print_line, print_table, stdout_kept_clean

if TYPE_CHECKING:
    from itscale.runs.pairing import Difference

A = Annotated[Path, typer.Argument(metavar="A", help="Folder of a run, or of a cell: RUN/cells/KEY.")]
B = Annotated[Path, typer.Argument(metavar="B", help="What to compare it with.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]

NAMES = {"reward": "reward", "held_out": "held-out", "nfe": "NFE", "seconds": "seconds"}


def compare(a: A, b: B, as_json: Json = False) -> None:
    """Compare two runs over the conditions, seeds and budgets that they share."""
    from itscale import runs
    from itscale.runs.records import clean
    from itscale.runs.sides import shown

    with stdout_kept_clean():
        found = runs.compare(a, b)
    if as_json:
        print_json(clean(asdict(found)))
        return
    print_line(f"A: {found.a}\nB: {found.b}")
    if found.changed:
        rows = [(path, shown(x), shown(y)) for path, x, y in found.changed]
        print_table(("setting", "A", "B"), rows, "Settings that differ")
    columns = ("A", "B", "A - B", "95 % interval", "A higher in")
    print_table(("", *columns), [(NAMES[k], *_cells(d)) for k, d in found.measures.items() if d])
    if len(found.strata) > 1:
        rows = [(s.label, str(s.pairs), *_cells(s.difference)) for s in found.strata if s.difference]
        print_table(("reward where", "pairs", *columns), rows)
    for note in found.notes:
        print_line(f"note: {note}")
    print_line(_unmatched(found.unmatched))
    print_line(found.conclusion)


def _cells(difference: Difference) -> tuple[str, ...]:
    from itscale.runs.table import interval_text, number, signed

    gap = difference.paired.difference
    won = f"{difference.paired.wins:g} of {gap.groups}"
    return number(difference.a), number(difference.b), signed(gap.mean), interval_text(gap), won


def _unmatched(counts: tuple[int, int]) -> str:
    if not any(counts):
        return "Every cell and unit of A has its partner in B, and the other way round."
    return f"Without a partner, and left out: {counts[0]} of A, {counts[1]} of B."
