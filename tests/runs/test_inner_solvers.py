"""Solvers inside of solvers and methods: named as solvers are."""

import pytest

from itscale.errors import UnknownName
from itscale.runs import load_config
from itscale.solvers import DDIM, Heun, Restart

BASE = {"model": "gaussian-mixture", "run": {"steps": 4}}


def cell_of(**sections):
    return load_config({**BASE, **sections}).cells[0]


@pytest.mark.parametrize("inner", ["heun", {"name": "heun"}])
def test_restart_takes_a_solver_by_name(inner):
    cell = cell_of(solver={"name": "restart", "inner": inner}, process="ode")
    assert cell.solver == Restart(inner=Heun())


def test_a_method_takes_a_solver_by_name():
    cell = cell_of(
        method={"name": "search-over-paths", "inner": "ddim"},
        process="ode",
        reward="tests.runs.test_resume:first_coordinate",
    )
    assert cell.method.inner == DDIM()


def test_a_method_is_no_inner_solver():
    with pytest.raises(UnknownName, match=r"solver\.inner: unknown solver 'smc'"):
        cell_of(solver={"name": "restart", "inner": "smc"}, process="ode")
