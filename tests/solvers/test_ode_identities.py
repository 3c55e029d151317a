"""ODE solvers that must coincide, cases in which they are exact, and their first step from pure noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import itscale
from itscale import grids, models
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import (
    DDIM,
    DEIS,
    GHVB,
    IPNDM,
    LMS,
    PNDM,
    RK4,
    AdaptiveDPM,
    DPMSolver2,
    DPMSolver2M,
    DPMSolver2S,
    DPMSolver3M,
    DPMSolver3S,
    EDMHeun,
    HeavyBall,
    Heun,
    Legacy3M,
    Nesterov,
    UniP,
    UniPC,
)
from itscale.solvers.momentum import mixer
from itscale.solvers.unipc import weights
from tests.oracles import mixture_2d
from tests.solvers.drive import drive

EXACT = {"rtol": 1e-12, "atol": 1e-12}
POINT = torch.tensor([0.8, -1.7], dtype=torch.float64)

IN_KAPPA = [  # solvers in the frame of kappa: which path they run on makes no difference
    DDIM(),
    EDMHeun(),
    RK4(),
    DPMSolver2(),
    DPMSolver3S(),
    DPMSolver2S(),
    DPMSolver2M(),
    DPMSolver3M(),
    Legacy3M(),
    UniP(3),
    UniPC(3, "bh1"),
    UniPC(2, "bh2"),
    DEIS(4),
    LMS(4),
    IPNDM(),
    GHVB(3),
    HeavyBall(),
    Nesterov(),
]
ALL = [*IN_KAPPA, DEIS(3, "time"), PNDM(), AdaptiveDPM()]


def start(rows: int = 16):
    return torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def run(solver, path="linear", steps=9):
    """A run over a uniform grid, from pure noise where the path has it (linear, edm has not)."""
    process = ContinuousProcess.of(mixture_2d(path), ODE())
    times = grids.uniform(process.interpolant, steps, process.t_start)
    return drive(process, solver, times, start() * float(process.interpolant.sigma(times[0])))


PAIRS = {
    "2M is UniP-2": (DPMSolver2M(), UniP(2)),
    "3M is UniP-3": (DPMSolver3M(), UniP(3)),
    "UniP-1 is DDIM": (UniP(1), DDIM()),
    "LMS-1 is DDIM": (LMS(1), DDIM()),
    "DEIS-1 is DDIM": (DEIS(1), DDIM()),
    "tAB-1 is DDIM": (DEIS(1, "time"), DDIM()),
    "rhoAB is LMS": (DEIS(4, "kappa"), LMS(4)),
    "HVB-1 without momentum is DDIM": (GHVB(1, beta=1.0), DDIM()),
    **{f"GHVB-{r} without momentum is iPNDM": (GHVB(r, beta=1.0), IPNDM(r)) for r in (1, 2, 3, 4)},
    "heavy ball of one point is HVB-1": (HeavyBall(1, beta=0.7), GHVB(1, beta=0.7)),
    **{f"heavy ball of {r} without momentum is iPNDM": (HeavyBall(r, 1.0), IPNDM(r)) for r in (1, 2, 4)},
    **{f"Nesterov of {r} without momentum is iPNDM": (Nesterov(r, 1.0), IPNDM(r)) for r in (1, 2, 4)},
}


@pytest.mark.parametrize("path", ["linear", "vp", "edm"])
@pytest.mark.parametrize("pair", PAIRS)
def test_solvers_coincide(pair, path):
    one, other = PAIRS[pair]
    torch.testing.assert_close(run(one, path), run(other, path), **EXACT)


def test_heun_in_kappa_is_heun_in_time_where_time_is_linear_in_kappa():
    torch.testing.assert_close(run(EDMHeun(), "edm"), run(Heun(), "edm"), **EXACT)
    assert (run(EDMHeun(), "vp") - run(Heun(), "vp")).abs().max() > 1e-3


@pytest.mark.parametrize("solver", [EDMHeun(), RK4()], ids=repr)
def test_runge_kutta_is_the_textbook_method_on_the_states(solver):
    """On the path edm: dx/dkappa = noise, stages by hand."""
    process = ContinuousProcess.of(mixture_2d("edm"), ODE())
    times = grids.karras(process.interpolant, 7, kappa_max=20.0, kappa_min=0.1)
    kappa = process.interpolant.sigma(times)

    def noise(x, k):
        return process.evaluate(x, process.interpolant.t_of_kappa(k)).noise

    x = 80.0 * start()
    for k, h in zip(kappa[:-2], torch.diff(kappa)[:-1], strict=True):
        e1 = noise(x, k)
        if solver == EDMHeun():
            x = x + h / 2 * (e1 + noise(x + h * e1, k + h))
            continue
        e2 = noise(x + h / 2 * e1, k + h / 2)
        e3 = noise(x + h / 2 * e2, k + h / 2)
        x = x + h / 6 * (e1 + 2 * e2 + 2 * e3 + noise(x + h * e3, k + h))
    end = drive(process, solver, times, 80.0 * start(), until=6)
    torch.testing.assert_close(end, x, rtol=1e-11, atol=1e-11)


def test_pndm_warms_up_by_runge_kutta_where_time_is_linear_in_kappa():
    process = ContinuousProcess.of(mixture_2d("edm"), ODE())
    times = grids.karras(process.interpolant, 7, kappa_max=20.0, kappa_min=0.1)
    warm, runge_kutta = (drive(process, s, times, 80.0 * start(), until=3) for s in (PNDM(), RK4()))
    torch.testing.assert_close(warm, runge_kutta, rtol=1e-11, atol=1e-11)
    spent = itscale.sample(mixture_2d(), n=2, steps=10, solver="pndm").spent
    assert spent.nfe == [2 * (10 + 9)]


@pytest.mark.parametrize(
    "solver", [DPMSolver2M(), DPMSolver3M(), UniP(3), LMS(4), DEIS(3), DEIS(3, "kappa")], ids=repr
)
def test_a_sample_from_infinite_kappa_has_no_part_in_a_polynomial(solver):
    """The second step from pure noise is of first order, like the first; the third uses two points."""
    process = ContinuousProcess.of(mixture_2d(), ODE())
    times = grids.uniform(process.interpolant, 9, 0.0)
    second, plain = (drive(process, s, times, start(), until=2) for s in (solver, DDIM()))
    torch.testing.assert_close(second, plain, **EXACT)
    third, plain = (drive(process, s, times, start(), until=3) for s in (solver, DDIM()))
    assert (third - plain).abs().max() > 1e-3


def test_fifth_order_mixer_without_momentum_is_adams_bashforth():
    expected = [v / 720 for v in (1901, -2774, 2616, -1274, 251)]
    assert mixer(4, 1.0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("points", [2, 3, 4, 5])
@pytest.mark.parametrize("beta", [0.2, 0.5, 0.8])
def test_mixers_undo_the_lag_of_the_smoothing(points, beta):
    """Where noises are a polynomial in the index the smoothing settles, and the mix is the integral.

    Of a degree below ``points``: a transient dies as (1 - beta)^i, so 400 indices leave nothing of it.
    """
    for degree in range(points):
        v = [0.0]
        for i in range(-400, 1):
            v.insert(0, (1 - beta) * v[0] + beta * float(i) ** degree)
        mixed = sum(w * u for w, u in zip(mixer(points - 1, beta), v, strict=False))
        assert mixed == pytest.approx(1 / (degree + 1), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("nodes", [(-0.9, -2.3), (1.0, -0.8), (1.0, -0.8, -2.1)])
def test_unipc_weights_integrate_polynomials_exactly(nodes, variant):
    """``- sum_k w_k r_k^q`` is the integral of h e^(-(1-s)h) s^q over [0, 1], q up to the number of nodes."""
    h = 0.7
    points, factors = np.polynomial.legendre.leggauss(30)
    s, w = torch.from_numpy((points + 1) / 2), torch.from_numpy(factors / 2)
    for q in range(1, len(nodes) + 1):
        exact = float((w * h * torch.exp(-(1 - s) * h) * s**q).sum())
        found = -sum(weight * r**q for weight, r in zip(weights(h, nodes, variant), nodes, strict=True))
        assert found == pytest.approx(exact, rel=1e-12)


def point_mass(path: str):
    return models.wrap(
        lambda x, t: POINT.expand_as(x), predicts="denoised", interpolant=path, event_shape=(2,)
    )


@pytest.mark.parametrize("steps", [3, 11])
@pytest.mark.parametrize("path", ["linear", "vp", "cosine", "edm"])
@pytest.mark.parametrize("solver", ALL, ids=repr)
def test_solvers_are_exact_for_a_point_mass(solver, path, steps):
    process = ContinuousProcess.of(point_mass(path), ODE())
    times = grids.uniform(process.interpolant, steps, process.t_start)
    t0, t1 = times[0], times[-2]
    alpha, sigma = process.interpolant.alpha, process.interpolant.sigma
    end = drive(process, solver, times, alpha(t0) * POINT + sigma(t0) * start(), until=steps - 1)
    # states reach 300 on the path edm, and dividing by alpha(0) = 0.0066 on vp costs two digits
    torch.testing.assert_close(end, alpha(t1) * POINT + sigma(t1) * start(), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("solver", IN_KAPPA, ids=repr)
def test_another_path_makes_no_difference_where_ratios_agree(solver):
    model = mixture_2d()
    own, other = (ContinuousProcess.of(model, ODE(interpolant=p)) for p in ("linear", "vp"))
    times = grids.karras(other.interpolant, 12, other.t_start)
    same = torch.cat([own.interpolant.t_of_kappa(other.interpolant.kappa(times[:-1])), times[-1:]])
    unit = start()
    ends = [
        drive(p, solver, t, unit * float(p.interpolant.sigma(t[0]))) for p, t in ((own, same), (other, times))
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=1e-10)


FIRST_STEP = [
    (DDIM(), 1),
    (EDMHeun(), 2),
    (DPMSolver2(), 2),
    (DPMSolver2S(), 2),
    (DPMSolver3S(), 3),
    (RK4(), 4),
    (PNDM(), 4),
]


@pytest.mark.parametrize(("solver", "order"), FIRST_STEP, ids=repr)
def test_the_first_step_from_pure_noise_has_the_order_of_the_solver(solver, order):
    """The error of one step of size h from t = 0 falls as h^(order + 1)."""
    process = ContinuousProcess.of(mixture_2d(), ODE())

    def first(t: float) -> torch.Tensor:
        exact, parts = start(64), 64
        gap = t / (1 - t) / parts  # in 1/kappa, where d(x / sigma) = D
        for i in range(parts):
            exact = exact + _rk4_in_inverse_kappa(process, exact, i * gap, gap)
        grid = torch.tensor([0.0, t, 1.0], dtype=torch.float64)
        end = drive(process, solver, grid, start(64), until=1)
        return (end - (1 - t) * exact).square().mean().sqrt()

    gained = math.log2(first(0.02) / first(0.01))
    assert abs(gained - (order + 1)) < 0.3


def _rk4_in_inverse_kappa(process, w, s, h):
    def slope(w, s):
        return process.evaluate(w / (1 + s), torch.tensor(s / (1 + s), dtype=torch.float64)).denoised

    k1 = slope(w, s)
    k2 = slope(w + h / 2 * k1, s + h / 2)
    k3 = slope(w + h / 2 * k2, s + h / 2)
    return h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(w + h * k3, s + h))


FROM_NOISE = [
    (DPMSolver2M(), 1.7),
    (LMS(2), 1.7),
    (IPNDM(), 1.6),
    (DPMSolver3M(), 1.9),
    (DEIS(3), 1.9),
    (UniPC(2), 2.7),  # its corrector mends the first step
]


@pytest.mark.parametrize(("solver", "least"), FROM_NOISE, ids=repr)
def test_multistep_solvers_converge_from_pure_noise(solver, least):
    """On even times from t = 0 to 0.8: the one first-order step at the start leaves order 2."""
    process = ContinuousProcess.of(mixture_2d(), ODE())

    def end(solver, steps):
        times = grids.uniform(process.interpolant, steps, 0.0)
        return drive(process, solver, times, start(64), until=int(0.8 * steps))

    exact = end(RK4(), 480)
    errors = [float((end(solver, n) - exact).square().mean().sqrt()) for n in (120, 240)]
    assert math.log2(errors[0] / errors[1]) > least
