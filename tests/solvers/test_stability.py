"""Where solvers of the ODE stay bounded: the largest ``-z h`` on ``y' = z y`` with equal steps."""

from __future__ import annotations

import pytest
import torch

from itscale import models
from itscale.interpolants import EDM
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import GHVB, IPNDM, HeavyBall
from tests.solvers.drive import drive

STEPS = 600
PATH = EDM(sigma_max=2.0, sigma_min=0.1)
TIMES = torch.cat([torch.linspace(0, 0.5, STEPS + 1), torch.ones(1)]).double()  # kappa from 2 to 1


def growth(solver, size: float) -> float:
    """How much larger the state is after all steps than after two thirds of them, ``-z h = size``."""
    model = models.wrap(
        lambda x, t: size * STEPS * x, predicts="noise", interpolant=PATH, event_shape=(1,)
    )  # dy / dkappa = z' y, and a step in kappa is - 1 / STEPS
    process, x = ContinuousProcess.of(model, ODE()), torch.ones(1, 1, dtype=torch.float64)
    ends = [float(drive(process, solver, TIMES, x, until=n).abs()) for n in (2 * STEPS // 3, STEPS)]
    return ends[1] / max(ends[0], 1e-300)


BOUNDS = {
    **{IPNDM(r): b for r, b in ((1, 2.0), (2, 1.0), (3, 6 / 11), (4, 0.3))},
    **{HeavyBall(4, b): 0.3 * (2 - b) / b for b in (0.5, 0.8)},
    HeavyBall(1, 0.5): 6.0,
    GHVB(1, 0.8): 3.0,
    GHVB(2, 0.8): 1.2,
    GHVB(2, 0.5): 1.5,
    GHVB(3, 0.8): 0.643,
    GHVB(4, 0.8): 0.354,
    GHVB(4, 0.5): 0.429,
    GHVB(4, 0.2): 0.501,
}


@pytest.mark.parametrize("solver", BOUNDS, ids=repr)
def test_momentum_moves_the_bound_of_stability(solver):
    """Bounds of the characteristic polynomials, to three digits: within a percent."""
    assert growth(solver, 0.99 * BOUNDS[solver]) < 1
    assert growth(solver, 1.01 * BOUNDS[solver]) > 1
