"""Errors against tabulated values: deterministic solvers on GM2, stochastic ones without Monte Carlo."""

from __future__ import annotations

import pytest
import torch

from itscale.process import ODE, ContinuousProcess
from itscale.solvers import (
    DDIM,
    DEIS,
    GHVB,
    IPNDM,
    LMS,
    PNDM,
    RK4,
    SDE2M,
    Ancestral,
    DPMSolver2,
    DPMSolver2M,
    DPMSolver2S,
    DPMSolver3M,
    DPMSolver3S,
    EDMHeun,
    EulerMaruyama,
    HeavyBall,
    Heun,
    Legacy3M,
    Nesterov,
    SDEHeun,
    UniP,
    UniPC,
)
from tests.contracts.solvers import (
    EDM_PATH,
    KAPPA_MAX,
    KAPPA_MIN,
    ode_errors,
    reference_ends,
    variance_errors,
)
from tests.oracles import gm2
from tests.solvers.drive import drive, kappa_grid

STEPS = (16, 32, 64, 128, 256)


# End-point errors of an independent implementation from the same starts, to three digits or to two.
TABLE = {
    DDIM(): (9.99e-2, 5.04e-2, 2.53e-2, 1.27e-2, 6.34e-3),
    Heun(): (1.79e-2, 4.16e-3, 1.01e-3, 2.47e-4, 6.14e-5),
    EDMHeun(): (1.79e-2, 4.16e-3, 1.01e-3, 2.47e-4, 6.14e-5),
    DPMSolver2(): (1.12e-2, 2.77e-3, 6.96e-4, 1.75e-4, 4.40e-5),
    DPMSolver3S(): (8.30e-4, 1.27e-4, 1.74e-5, 2.29e-6, 2.92e-7),
    DPMSolver2S(): (1.29e-2, 3.84e-3, 1.07e-3, 2.83e-4, 7.30e-5),
    DPMSolver2M(): (2.38e-2, 6.09e-3, 1.58e-3, 4.01e-4, 1.01e-4),
    DPMSolver2M("heun"): (3.09e-2, 7.06e-3, 1.74e-3, 4.30e-4, 1.07e-4),
    Legacy3M(): (1.39e-2, 1.94e-3, 3.63e-4, 8.47e-5, 2.10e-5),
    DPMSolver3M(): (2.16e-2, 2.02e-3, 2.01e-4, 2.20e-5, 2.63e-6),
    UniP(3): (2.16e-2, 2.02e-3, 2.01e-4, 2.20e-5, 2.63e-6),
    UniPC(2, "bh1"): (1.51e-2, 1.97e-3, 2.32e-4, 2.74e-5, 3.32e-6),
    UniPC(2, "bh2"): (1.17e-2, 2.24e-3, 3.01e-4, 3.74e-5, 4.63e-6),
    UniPC(3, "bh2"): (1.55e-2, 4.40e-4, 3.03e-5, 2.80e-6, 2.07e-7),
    LMS(2): (3.86e-2, 1.21e-2, 3.45e-3, 9.27e-4, 2.40e-4),
    LMS(3): (2.39e-2, 5.25e-3, 8.96e-4, 1.30e-4, 1.75e-5),
    LMS(4): (1.82e-2, 2.97e-3, 3.00e-4, 2.34e-5, 1.67e-6),
    DEIS(3): (1.08e-2, 2.25e-3, 3.32e-4, 4.37e-5, 5.55e-6),
    GHVB(2): (2.29e-2, 7.88e-3, 2.40e-3, 6.63e-4, 1.74e-4),
    RK4(): (2.40e-4, 1.64e-5, 1.06e-6, 6.65e-8, 4.16e-9),
}
TWO_DIGITS = {
    IPNDM(2): (1.95e-2, 6.5e-3, 1.9e-3, 5.1e-4, 1.3e-4),
    IPNDM(3): (1.05e-2, 2.2e-3, 3.6e-4, 7.5e-5, 1.95e-5),
    IPNDM(4): (7.72e-3, 1.2e-3, 3.4e-4, 8.8e-5, 2.2e-5),
    GHVB(1): (1.47e-1, 7.4e-2, 3.7e-2, 1.9e-2, 9.5e-3),
    GHVB(3): (1.13e-2, None, 4.1e-4, None, 1.9e-5),
    GHVB(4): (8.2e-3, None, 3.3e-4, None, 2.2e-5),
    GHVB(4, beta=0.5): (8.9e-3, None, 3.2e-4, None, 2.2e-5),
    GHVB(5): (6.3e-3, None, 3.6e-4, None, 2.2e-5),
    HeavyBall(): (4.2e-2, None, 1.18e-2, None, 3.1e-3),
    PNDM(): (7.8e-3, 1.2e-3, 3.4e-4, None, None),
    Nesterov(): (1.01e-2, None, 2.1e-3, None, 6.0e-4),
}


@pytest.mark.parametrize("solver", [*TABLE, *TWO_DIGITS], ids=repr)
def test_ode_errors_match_an_independent_implementation(solver):
    """Half a unit of the last digit is at most 0.5 % (3.4 % in two digits): a wrong factor shows."""
    table, tolerance = (TABLE[solver], 0.006) if solver in TABLE else (TWO_DIGITS[solver], 0.035)
    wanted = [(n, e) for n, e in zip(STEPS, table, strict=True) if e is not None]
    errors = ode_errors(solver, tuple(n for n, _ in wanted))
    assert errors == pytest.approx([e for _, e in wanted], rel=tolerance)


def test_nodes_in_the_time_of_the_linear_path_match_an_independent_implementation():
    """The same starts and noise levels on the linear path, whose t = 1 / (1 + kappa) is another axis."""
    table = (1.24e-2, 2.68e-3, 4.28e-4, 5.90e-5, 7.69e-6)
    start, truth = reference_ends(256)
    process = ContinuousProcess.of(gm2("linear"), ODE())
    for moves, tabulated in zip(STEPS, table, strict=True):
        own = ContinuousProcess.of(gm2(EDM_PATH), ODE())
        kappa = own.interpolant.kappa(kappa_grid(own, moves, KAPPA_MAX, KAPPA_MIN)[:-1])
        times = torch.cat([process.interpolant.t_of_kappa(kappa), torch.ones(1, dtype=torch.float64)])
        end = drive(process, DEIS(3, "time"), times, times[0] * start, until=moves)
        error = float((end / times[-2] - truth).square().sum(1).mean().sqrt())
        assert error == pytest.approx(tabulated, rel=0.006)


ON_OTHER_GRIDS = {
    "log-snr": {
        DPMSolver2M(): 4.75e-3,
        UniPC(2): 1.64e-3,
        UniPC(3): 2.58e-4,
        DPMSolver3S(): 8.4e-5,
        EDMHeun(): 4.3e-3,
    },
    "uniform": {DDIM(): 3.4e-2, EDMHeun(): 2.9e-3, DPMSolver2M(): 3.2e-3, UniPC(3): 1.5e-3, IPNDM(4): 3.2e-4},
}


@pytest.mark.parametrize("grid", ON_OTHER_GRIDS)
def test_ode_errors_on_other_grids_match_an_independent_implementation(grid):
    """In 32 steps: equal ones in log-SNR, and in the time of the linear path."""
    start, truth = reference_ends(256)
    ends = torch.tensor([KAPPA_MAX, KAPPA_MIN], dtype=torch.float64)
    into, back = {"log-snr": (torch.log, torch.exp), "uniform": (lambda k: 1 / (1 + k), lambda v: 1 / v - 1)}[
        grid
    ]
    first, last = into(ends)
    kappa = back(torch.linspace(float(first), float(last), 33, dtype=torch.float64)).clamp(
        KAPPA_MIN, KAPPA_MAX
    )
    times = torch.cat([EDM_PATH.t_of_kappa(kappa), torch.ones(1, dtype=torch.float64)])
    process = ContinuousProcess.of(gm2(EDM_PATH), ODE())
    for solver, tabulated in ON_OTHER_GRIDS[grid].items():
        end = drive(process, solver, times, start, until=32)
        error = float((end - truth).square().sum(1).mean().sqrt())
        assert error == pytest.approx(tabulated, rel=0.02)


@pytest.mark.parametrize(
    ("solver", "table"),
    [
        (EulerMaruyama(), (-4.3e-3, -4.2e-3, -2.6e-3, -1.4e-3)),
        (Ancestral(), (-1.94e-1, -1.04e-1, -5.4e-2, -2.8e-2)),
        (Ancestral(eta_ddim=0.5), (-1.22e-1, -6.4e-2, -3.3e-2, -1.7e-2)),
        (SDE2M(), (2.5e-2, 6.2e-3, 1.5e-3, 3.8e-4)),
        (SDE2M("heun"), (4.8e-2, 1.1e-2, 2.7e-3, 6.6e-4)),
        (SDEHeun(), (1.0e-3, 5.1e-4, 1.6e-4, 4.2e-5)),
    ],
    ids=repr,
)
def test_variance_errors_match_an_independent_implementation(solver, table):
    # Exact numbers, tabulated to two digits: half a unit of the second digit is at most 5 %.
    for error, tabulated in zip(variance_errors(solver, (32, 64, 128, 256)), table, strict=True):
        assert error == pytest.approx(tabulated, rel=0.05)
