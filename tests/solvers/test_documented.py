"""The page on solvers knows all of them, and states the facts that the command line lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from itscale.solvers import SOLVERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "solvers.md").read_text()


@pytest.mark.parametrize("name", SOLVERS)
def test_the_table_of_orders_agrees_with_the_solver(name):
    row = re.search(rf"^\| `{re.escape(name)}` \| ((?:ODE|SDE) .*) \|$", PAGE, re.MULTILINE)
    assert row, f"docs/solvers.md has no row for {name}"
    solves, evaluations, memory, noise, gaussian, order, *_ = row[1].split(" | ")
    solver = SOLVERS[name]()
    is_noisy = solver.is_stochastic or getattr(solver, "brings_noise", False)
    assert solves == ("SDE" if solver.is_stochastic else "ODE")
    assert (int(evaluations), int(memory), int(order)) == (solver.evaluations, solver.history, solver.order)
    assert (noise == "yes", gaussian == "yes") == (is_noisy, solver.gaussian)
