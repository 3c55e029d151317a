"""Restart: its loop, its cost, and the law that a cycle keeps."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import itscale
from itscale import grids, models
from itscale.errors import ConfigError, UnknownName
from itscale.interpolants import EDM, VP, Linear, Table
from itscale.preparation import prepare
from itscale.process import ODE, SDE, ContinuousProcess
from itscale.solvers import (
    RESTART_PRESETS,
    DPMSolver2M,
    DPMSolver3S,
    Heun,
    Interval,
    Restart,
    get_solver,
    restart_preset,
)
from itscale.solvers.restart import Cycle, CycleKernel
from tests.contracts.solvers import ode_errors
from tests.engine.setting import Network, wrapped
from tests.oracles import gm2, mixture_1d, mixture_2d
from tests.solvers.drive import affine_law, drive, gaussian, kappa_grid, looker, slope

EDM_20 = EDM(sigma_max=20.0, sigma_min=0.001)


# -- the loop and its cost


def published_restart(model, kappas, x, jumps, noise, rho=7.0):
    """Algorithm 1 of Xu et al. with Heun's method, written in y and sigma; ends before the jump to the data.

    ``jumps``: by index of the main grid, (points, repeats, upper end).
    """

    def heun(y, now, after):
        def slope_at(v, k):
            return (v - model.denoised(v, float(model.interpolant.t_of_kappa(k)))) / k

        d = slope_at(y, now)
        return y + (after - now) * (d + slope_at(y + (after - now) * d, after)) / 2

    draws = iter(noise)
    for i in range(len(kappas) - 1):
        x = heun(x, kappas[i], kappas[i + 1])
        points, repeats, top = jumps.get(i + 1, (0, 0, 0.0))
        low = kappas[i + 1]
        for _ in range(repeats):
            x = x + math.sqrt(top**2 - low**2) * next(draws)
            u = torch.arange(points, dtype=torch.float64) / (points - 1)
            inner = ((top ** (1 / rho) + u * (low ** (1 / rho) - top ** (1 / rho))) ** rho).tolist()
            for now, after in itertools.pairwise(inner):
                x = heun(x, now, after)
    return x


def test_restart_is_the_published_loop():
    model = gm2(EDM_20)
    process = ContinuousProcess.of(model, ODE())
    times = kappa_grid(process, 12, 20.0, 0.05)
    kappas = model.interpolant.kappa(times[:-1]).tolist()
    solver = Restart(
        (
            Interval(kappa_min=0.3, kappa_max=1.0, points=4, repeats=3),
            Interval(kappa_min=2.0, kappa_max=9.0, points=3, repeats=1),
        )
    )
    # nearest levels, found by hand from the grid 20 13.5 8.8 5.6 3.5 2.08 1.2 .66 .34 .167 .076 ...
    near = [min(range(1, 13), key=lambda i, k=k: abs(kappas[i] - k)) for k in (0.3, 2.0)]
    x, *z = torch.randn(5, 40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = {near[1]: z[:1], near[0]: z[1:]}
    mine = drive(process, solver, times, 20 * x, lambda k, j=0: order[k + 1][j], until=12)
    theirs = published_restart(model, kappas, 20 * x, {near[0]: (4, 3, 1.0), near[1]: (3, 1, 9.0)}, z)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", RESTART_PRESETS)
def test_published_settings_cost_what_they_state(name):
    preset = restart_preset(name)
    path = Table.scaled_linear() if name.startswith("stable") else VP()
    setup = prepare(mixture_2d(path), particles=1, **preset.settings())
    assert setup.plan.nfe == preset.nfe == int(name.rsplit("-", 1)[1]) or name.startswith("stable")
    assert setup.plan.nfe == preset.nfe


def test_a_second_order_end_leaves_order_three_and_saves_an_evaluation():
    plain, eased = (ode_errors(s, (64, 128)) for s in (DPMSolver3S(), DPMSolver3S(second_order_end=True)))
    assert slope(eased) > 2.7
    assert eased != plain
    costs = [
        prepare(mixture_2d(VP()), particles=1, steps=6, solver=s, process=ODE()).plan.nfe
        for s in (DPMSolver3S(), DPMSolver3S(second_order_end=True))
    ]
    assert costs == [3 * 5 + 1, 3 * 6 - 3]


def test_a_published_setting_runs_and_spends_what_it_states():
    network = Network()
    result = itscale.sample(
        wrapped(network), n=3, condition=1.0, groups=2, **restart_preset("imagenet64-edm-39").settings()
    )
    assert result.spent.nfe == [3 * 39] * 2
    assert network.rows == sum(result.spent.model_rows)
    assert result.samples.isfinite().all()


def test_the_main_solver_starts_afresh_after_a_cycle():
    """Its memory belongs to the path before the jump in time."""
    process = ContinuousProcess.of(mixture_2d(EDM_20), ODE())
    times = kappa_grid(process, 10, 20.0, 0.05)
    interval = Interval(kappa_min=0.7, kappa_max=2.0, points=3)
    solver = Restart((interval,), main="dpm++2m", inner="dpm++2m")
    kernel = solver.build(process, times)
    (level, (cycle, _)), *_ = kernel.cycles.items()
    x, z = torch.randn(2, 30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mine = drive(process, solver, times, 20 * x, lambda k, j=0: z, until=10)
    there = drive(process, DPMSolver2M(), times, 20 * x, until=level)
    there = cycle(there, looker(process, times), [z])
    expected = drive(process, DPMSolver2M(), times[level:], there, until=10 - level)
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


# -- what a cycle keeps


@pytest.mark.parametrize("inner", ["heun", "sde-heun", "2m-sde", "dpm++sde"])
@pytest.mark.parametrize("path", [EDM_20, Linear(), VP()], ids=repr)
def test_cycles_keep_the_base_law_to_second_order(path, inner):
    """On Gaussian data, without Monte Carlo: one cycle from the exact law of its level."""
    kappa = 0.3
    process = ContinuousProcess.of(gaussian(interpolant=path), ODE())
    t = float(path.t_of_kappa(kappa))
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    exact = math.sqrt(alpha**2 * 0.25 + sigma**2)
    errors = []
    for points in (17, 33):
        interval = Interval(kappa_min=kappa, kappa_max=2.0, points=points)
        cycle = Cycle.build(process, t, interval, get_solver(inner), rho=7.0)
        size = 2 + cycle.normals
        basis = torch.cat([torch.zeros(1, size - 1), torch.eye(size - 1)]).double()
        start = alpha * 0.7 + exact * basis[:, :1]
        times = torch.tensor([0.0, t, 1.0], dtype=torch.float64)
        normals = [basis[:, 1 + j, None] for j in range(cycle.normals)]
        end = cycle(start, looker(process, times), normals)[:, 0]
        variance = float((end[1:] - end[0]).square().sum())
        errors.append(abs(variance / exact**2 - 1))
        assert float(end[0]) == pytest.approx(alpha * 0.7, abs=1e-3)
    assert errors[1] < 2e-3
    assert slope(errors) > 1.7 or errors[1] < 3e-4  # changes its sign there


def test_too_much_noise_in_the_jump_is_seen():
    """The ratio of signal after the jump is what keeps the law; a hundredth more noise moves it."""
    process = ContinuousProcess.of(gaussian(interpolant=VP()), ODE())
    times = grids.karras(VP(), 40, process.t_start)
    laws = [
        affine_law(
            process,
            Restart((Interval(kappa_min=0.3, kappa_max=2.0, points=30, repeats=4),), noise_scale=s),
            times,
            float(VP().sigma(times[0])),
            until=39,
        ).variance
        for s in (1.0, 1.01)
    ]
    plain = affine_law(process, Heun(), times, float(VP().sigma(times[0])), until=39).variance
    assert laws[0] == pytest.approx(plain, rel=3e-3)
    assert laws[1] / laws[0] > 1.01


# -- cycles and a tilted law


PARTICLES = 40_000
KAPPA, TOP = 0.1, 1.5
EXACT_MEAN = 1.4773


def tilted_population():
    """Exact particles of p_t exp(y) at kappa = 0.1 on the line, and their process."""
    base = mixture_1d(EDM_20)
    noisy = models.GaussianMixture(
        base.weights, base.means, (base.stds**2 + KAPPA**2).sqrt(), interpolant=EDM_20, dtype=torch.float64
    )
    target, _ = noisy.tilted_linear([1.0])
    assert float(target.mean()) == pytest.approx(EXACT_MEAN, abs=1e-4)
    return ContinuousProcess.of(base, ODE()), target.sample(PARTICLES, torch.Generator().manual_seed(3))


def one_cycle(process, y, inner: str, generator):
    t = float(EDM_20.t_of_kappa(KAPPA))
    interval = Interval(kappa_min=KAPPA, kappa_max=TOP, points=25)
    kernel = CycleKernel(Cycle.build(process, t, interval, get_solver(inner), rho=7.0))
    times = torch.tensor([0.0, t, 1.0], dtype=torch.float64)
    z = torch.randn(len(y), kernel.cycle.normals, 1, dtype=torch.float64, generator=generator)
    at = process.evaluate(y, times[1])
    return kernel(at, (), 1, looker(process, times), z).x


@pytest.mark.parametrize(("inner", "unweighted"), [("heun", 0.985), ("2m-sde", 0.662)])
def test_cycles_need_a_weight_to_keep_a_tilted_law(inner, unweighted):
    process, x = tilted_population()
    y = one_cycle(process, x, inner, torch.Generator().manual_seed(4))
    # standard deviations are about 1: 0.025 is 4.89 of them over sqrt(40,000)
    assert float(y.mean()) == pytest.approx(unweighted, abs=0.025)
    weights = torch.softmax((y - x)[:, 0], 0)
    ess = float(1 / weights.square().sum()) / PARTICLES
    assert ess == pytest.approx({"heun": 0.37, "2m-sde": 0.18}[inner], abs=0.03)
    assert float(weights @ y[:, 0]) == pytest.approx(EXACT_MEAN, abs=0.025 / math.sqrt(ess))


def metropolis(inner: str, sweeps: int) -> tuple[list[float], float]:
    process, x = tilted_population()
    generator = torch.Generator().manual_seed(5)
    means, accepted = [], 0.0
    for _ in range(sweeps):
        y = one_cycle(process, x, inner, generator)
        u = torch.rand(PARTICLES, 1, dtype=torch.float64, generator=generator)
        moves = u.log() < y - x
        x = torch.where(moves, y, x)
        means.append(float(x.mean()))
        accepted = float(moves.double().mean())
    return means, accepted


def test_a_metropolis_cycle_keeps_a_tilted_law_if_it_comes_down_by_the_reverse_sde():
    means, accepted = metropolis("2m-sde", 5)
    for mean in means:
        assert mean == pytest.approx(EXACT_MEAN, abs=0.025)
    assert accepted == pytest.approx(0.54, abs=0.02)


@pytest.mark.slow
def test_a_metropolis_cycle_down_the_ode_drifts_away():
    means, _ = metropolis("heun", 5)
    assert means[-1] - EXACT_MEAN > 0.015


# -- bad settings


def build(steps=10, **setting):
    process = ContinuousProcess.of(mixture_2d(), ODE())
    times = grids.karras(process.interpolant, steps, 0.0, kappa_max=20.0, kappa_min=0.05)
    return Restart(**setting).build(process, times)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0.01, 1.0, "outside the grid: kappa_min must be between"),
        (50.0, 60.0, "outside the grid"),
        (0.3, 0.31, "above its end|begins at the level"),
    ],
)
def test_intervals_outside_the_grid_are_refused(low, high, message):
    with pytest.raises(ConfigError, match=message):
        build(intervals=(Interval(kappa_min=low, kappa_max=high),))


def test_intervals_above_the_start_are_refused():
    process = ContinuousProcess.of(mixture_2d(EDM_20), ODE())
    times = kappa_grid(process, 10, 20.0, 0.05)
    with pytest.raises(ConfigError, match="kappa_max at most 20"):
        Restart((Interval(kappa_min=1.0, kappa_max=30.0),)).build(process, times)


def test_intervals_that_overlap_or_share_a_level_are_refused():
    both = (Interval(kappa_min=0.3, kappa_max=1.0), Interval(kappa_min=0.6, kappa_max=2.0))
    with pytest.raises(ConfigError, match=r"overlap: \[0.3, 1\] and \[0.6, 2\].*overlapping=True"):
        Restart(both)
    assert len(build(intervals=both, steps=20, overlapping=True).cycles) == 2
    same = (Interval(kappa_min=0.3, kappa_max=1.0), Interval(kappa_min=0.31, kappa_max=2.0))
    with pytest.raises(ConfigError, match="two restart intervals belong to level"):
        build(intervals=same, overlapping=True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kappa_min": 0.0, "kappa_max": 1.0}, "0 < kappa_min < kappa_max"),
        ({"kappa_min": 2.0, "kappa_max": 1.0}, "0 < kappa_min < kappa_max"),
        ({"kappa_min": 1.0, "kappa_max": math.inf}, "0 < kappa_min < kappa_max"),
        ({"kappa_min": 1.0, "kappa_max": 2.0, "points": 1}, "points of a restart interval"),
        ({"kappa_min": 1.0, "kappa_max": 2.0, "repeats": 0}, "repeats of a restart interval"),
        ({"kappa_min": 1.0, "kappa_max": 2.0, "repeats": 1.5}, "repeats of a restart interval"),
    ],
    ids=str,
)
def test_intervals_check_their_numbers(setting, message):
    with pytest.raises(ConfigError, match=message):
        Interval(**setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"intervals": ()}, "one or more Interval"),
        ({"intervals": ((0.1, 0.2),)}, "one or more Interval"),
        ({"noise_scale": 0.0}, "noise_scale must be positive"),
        ({"rho": -1.0}, "rho must be positive"),
        ({"main": "huen"}, "Did you mean"),
        ({"inner": 3}, "main and inner must be solvers"),
        ({"inner": Restart()}, "holds no other Restart"),
    ],
    ids=str,
)
def test_restart_checks_its_settings(setting, message):
    with pytest.raises(ConfigError, match=message):
        Restart(**setting)


def test_restart_runs_on_the_process_of_its_main_solver_and_unknown_settings_are_named():
    network = Network()
    for view, main in ((SDE(), "heun"), (ODE(), "2m-sde")):
        with pytest.raises(ConfigError, match="process"):
            itscale.sample(wrapped(network), n=2, condition=1.0, process=view, solver=Restart(main=main))
    assert network.rows == 0
    with pytest.raises(UnknownName, match="Did you mean"):
        restart_preset("cifar10-vp-44")
