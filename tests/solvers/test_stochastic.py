"""Stochastic solvers against tabulated errors, published loops and closed forms; none by Monte Carlo."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from itscale import grids
from itscale.interpolants import EDM, VP, Linear
from itscale.process import ODE, SDE, ContinuousProcess, Natural
from itscale.solvers import (
    DPMSDE,
    SDE2M,
    SDE3M,
    Ancestral,
    Ancestral2S,
    Churn,
    EulerMaruyama,
    Heun,
    Langevin,
    Legacy3M,
    NoiseSDE2M,
)
from itscale.solvers.dpm_solver_2m import exponential_moments
from itscale.solvers.dpm_solver_3m import legacy_row
from itscale.solvers.linear_update import LinearUpdate
from itscale.solvers.schedule import Schedule
from itscale.solvers.staged_sde import StagedSDE
from tests.contracts.solvers import EDM_PATH, KAPPA_MAX, KAPPA_MIN, check_order, variance_errors
from tests.oracles import gm2
from tests.solvers.drive import affine_law, drive, gaussian, kappa_grid, looker, slope

EXACT_VARIANCE = 0.5**2 + KAPPA_MIN**2


def errors_on(grid, solver, view, steps, path=EDM_PATH) -> list[float]:
    """Relative errors of the variance on N(0.7, 0.5^2), started from the exact law's spread."""
    process = ContinuousProcess.of(gaussian(interpolant=path), view)
    start = math.hypot(KAPPA_MAX, 0.5)
    return [
        affine_law(process, solver, grid(process, n), start, n).variance / EXACT_VARIANCE - 1 for n in steps
    ]


@pytest.mark.parametrize(
    ("solver", "table"),
    [
        (SDE3M(), (5.3e-3, 1.3e-3, 3.5e-4, 9.1e-5)),
        (Ancestral2S(), (-2.3e-2, -6.2e-3, -1.6e-3, -4.0e-4)),
        (DPMSDE(), (-9.8e-3, -2.2e-3, -4.8e-4, -1.1e-4)),
    ],
    ids=repr,
)
def test_variance_errors_match_an_independent_implementation(solver, table):
    # exact numbers, tabulated to two digits: half a unit of the second digit is at most 5 %
    for error, tabulated in zip(variance_errors(solver, (32, 64, 128, 256)), table, strict=True):
        assert error == pytest.approx(tabulated, rel=0.05)


@dataclass(frozen=True)
class LegacySDE(SDE3M):
    """With half the second derivative, as commonly implemented."""

    def build(self, process, times):
        return LinearUpdate.build(Schedule.of(process, times), legacy_row, history=2)


@pytest.mark.parametrize(
    ("solver", "table"),
    [
        (LegacySDE(), (1.4e-2, 3.3e-3, 8.2e-4, 2.1e-4)),
        (Legacy3M(), (2.2e-3, 5.9e-4, 1.5e-4, 4.0e-5)),
    ],
    ids=repr,
)
def test_half_the_second_derivative_leaves_order_two(solver, table):
    if solver.is_stochastic:
        errors = variance_errors(solver, (32, 64, 128, 256))
    else:
        errors = errors_on(
            lambda process, n: kappa_grid(process, n, KAPPA_MAX, KAPPA_MIN), solver, ODE(), (32, 64, 128, 256)
        )
    for error, tabulated in zip(errors, table, strict=True):
        assert error == pytest.approx(tabulated, rel=0.05)


def test_two_steps_on_noises_match_their_table_and_have_half_the_error_of_two_on_samples():
    def log_snr(process, n):
        return grids.log_snr(process.interpolant, n + 1, 0.0, kappa_max=KAPPA_MAX, kappa_min=KAPPA_MIN)

    steps = (16, 32, 64, 128, 256)
    noises = errors_on(log_snr, NoiseSDE2M(), SDE(), steps)
    for error, tabulated in zip(noises, (-2.0e-2, -5.7e-3, -1.5e-3, -3.8e-4, -9.6e-5), strict=True):
        assert error == pytest.approx(tabulated, rel=0.05)
    samples = errors_on(log_snr, SDE2M(), SDE(), steps)
    assert abs(samples[-1] / noises[-1]) > 1.7


def test_three_steps_without_noise_are_of_third_order():
    errors = errors_on(
        lambda process, n: kappa_grid(process, n, KAPPA_MAX, KAPPA_MIN),
        SDE3M(),
        SDE(diffusion=Natural(eta_sde=0.0)),
        (32, 64, 128, 256),
    )
    for error, tabulated in zip(errors, (-9.8e-4, -1.4e-4, -1.9e-5, -2.5e-6), strict=True):
        assert error == pytest.approx(tabulated, rel=0.05)
    assert slope([abs(e) for e in errors]) > 2.8


def test_the_clock_of_the_noise_changes_the_error_and_not_the_order():
    published, variance = (
        [abs(e) for e in variance_errors(DPMSDE(clock=c), (32, 64, 128, 256))]
        for c in ("published", "variance")
    )
    assert all(v < 0.6 * p for v, p in zip(variance, published, strict=True))
    assert slope(variance) > 1.85


@pytest.mark.parametrize("diffusion", ["sigma", "constant", Natural(0.4), Natural(2.0)], ids=str)
@pytest.mark.parametrize("path", [Linear(), VP()], ids=repr)
@pytest.mark.parametrize("solver", [SDE3M(), NoiseSDE2M(), Ancestral2S(), DPMSDE()], ids=repr)
def test_orders_hold_for_other_coefficients_and_paths(solver, path, diffusion):
    """Weak order 2 on uniform grids, from pure noise on the linear path, to a fixed time before the data."""
    if solver == NoiseSDE2M() and path == Linear():
        return  # noises from infinite kappa are of first order on a uniform grid, as its docstring says
    process = ContinuousProcess.of(gaussian(interpolant=path), SDE(diffusion=diffusion))
    stop = 0.9
    alpha, sigma = float(path.alpha(stop)), float(path.sigma(stop))
    exact = alpha**2 * 0.25 + sigma**2
    errors = []
    for n in (80, 160):
        times = torch.cat([torch.linspace(process.t_start, stop, n + 1), torch.ones(1)]).double()
        law = affine_law(process, solver, times, float(path.sigma(times[0])), n)
        errors.append(abs(law.variance / exact - 1))
    # Leading terms are not alone yet where the coefficient is large: order 1 would leave 2e-2 and halve it
    assert errors[1] < 2e-3
    assert slope(errors) > 1.6 or errors[1] < 3e-4


def test_moments_of_the_exponential_match_quadrature_on_both_sides_of_their_series():
    nodes, weights = (torch.tensor(v) for v in __import__("numpy").polynomial.legendre.leggauss(40))
    s, w = (nodes + 1) / 2, weights / 2
    for whole in (1e-6, 9.9e-4, 1.01e-3, 0.1, 2.0, 8.0):
        kernel = whole * torch.exp(-whole * (1 - s)) * w
        i2, i3 = exponential_moments(whole)
        assert i2 == pytest.approx(float((kernel * s).sum()), rel=1e-9)
        assert i3 == pytest.approx(float((kernel * s**2 / 2).sum()), rel=1e-9)


def published_churn(model, kappas, x, s_churn, s_noise, s_min, s_max, noise):
    """Algorithm 2 of Karras et al. in its own variables: y and sigma, noise first. Ends before the jump."""
    n = len(kappas)
    for i, (now, after) in enumerate(itertools.pairwise(kappas)):
        gamma = min(s_churn / n, math.sqrt(2) - 1) if s_min <= now <= s_max else 0.0
        hat = now * (1 + gamma)
        if gamma:
            x = x + s_noise * math.sqrt(hat**2 - now**2) * noise(i)
        d = (x - model.denoised(x, float(EDM_PATH.t_of_kappa(hat)))) / hat
        y = x + (after - hat) * d
        d2 = (y - model.denoised(y, float(EDM_PATH.t_of_kappa(after)))) / after
        x = x + (after - hat) * (d + d2) / 2
    return x


@pytest.mark.parametrize(("s_min", "s_max"), [(0.0, math.inf), (0.08, 2.6)])
def test_churn_is_the_published_loop_seen_after_its_noise(s_min, s_max):
    model, s_churn, s_noise = gm2(EDM_PATH), 4.0, 1.007
    kappas = torch.logspace(1, -1.2, 12, dtype=torch.float64).tolist()
    gamma = s_churn / 12
    generator = torch.Generator().manual_seed(0)
    x, *z = torch.randn(13, 30, 2, dtype=torch.float64, generator=generator)
    # the levels are the published ones after noise was added; the first state is there already
    levels = [k * (1 + gamma * (s_min <= k <= s_max)) for k in kappas[1:]]
    times = EDM_PATH.t_of_kappa(torch.tensor([kappas[0], *levels], dtype=torch.float64))
    times = torch.cat([times, torch.ones(1, dtype=torch.float64)])
    process = ContinuousProcess.of(model, ODE())
    solver = Churn(s_churn=s_churn, s_min=s_min, s_max=s_max, s_noise=s_noise)
    mine = drive(process, solver, times, 10 * x, lambda k: z[k + 1], until=11)

    def noise(i):
        return z[i]

    # the published loop adds noise to the first state and none to the last
    theirs = published_churn(
        model, kappas, 10 * x, s_churn, s_noise, s_min, min(s_max, kappas[0] * 0.999), noise
    )
    churned = s_min <= kappas[-1] <= s_max
    if churned:
        theirs = theirs + s_noise * kappas[-1] * math.sqrt((1 + gamma) ** 2 - 1) * z[11]
    torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


def test_churn_at_most_doubles_the_variance_of_the_noise():
    process = ContinuousProcess.of(gaussian(interpolant=EDM_PATH), ODE())
    times = kappa_grid(process, 6, KAPPA_MAX, KAPPA_MIN)
    kernel, x = Churn(s_churn=1e3).build(process, times), torch.ones(1, 1, dtype=torch.float64)
    move = kernel(process.evaluate(x, times[2]), (), 2, looker(process, times), x)
    assert float(move.std) == pytest.approx(float(EDM_PATH.kappa(times[3])) / math.sqrt(2))


def test_churn_matches_its_table_and_too_much_noise_leaves_a_bias():
    # The table was made noise first, on levels lower by 1 + s_churn / N; the ratios of steps are the same.
    errors = variance_errors(Churn(s_churn=5.0), (32, 64, 128, 256))
    for error, tabulated in zip(errors, (2.6e-2, 6.4e-3, 1.6e-3, 4.0e-4), strict=True):
        assert error == pytest.approx(tabulated, rel=0.08)
    biased = variance_errors(Churn(s_churn=20.0, s_noise=1.003), (256, 512))
    assert all(4e-3 < e < 1e-2 for e in biased)
    assert slope(biased) < 0.3


def test_langevin_moves_have_the_stationary_variance_of_their_step():
    """At one level on Gaussian data the moves are AR(1): variance ``v* 2 / (1 + a)``, not v*."""
    snr, path = 0.4, Linear()
    process = ContinuousProcess.of(gaussian(interpolant=path), SDE())
    times = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64)
    law = affine_law(process, Langevin(snr=snr, corrections=150), times, 0.7, until=1)
    alpha, sigma = 0.6, 0.4
    variance = alpha**2 * 0.25 + sigma**2
    a = 1 - 2 * (snr * sigma) ** 2 / variance
    assert a**300 < 1e-12  # the start is forgotten
    assert law.variance == pytest.approx(variance * 2 / (1 + a), rel=1e-9)
    assert law.mean == pytest.approx(alpha * 0.7, rel=1e-9)


def test_langevin_moves_repair_the_starved_variance_of_their_predictor():
    plain, corrected = (abs(variance_errors(s, (64,))[0]) for s in (Ancestral(), Langevin()))
    assert corrected < 0.9 * plain


@pytest.mark.parametrize("path", ["linear", "vp"])
@pytest.mark.parametrize(
    "solver", [SDE3M(), Ancestral2S(), Ancestral2S(eta_ddim=0.5), DPMSDE(), Langevin(snr=0.01)], ids=repr
)
def test_exponential_solvers_keep_the_law_of_a_point_mass(solver, path):
    process = ContinuousProcess.of(gaussian(0.7, 1e-9, path), SDE())
    interpolant = process.interpolant
    times = grids.uniform(interpolant, 7, process.t_start)
    law = affine_law(process, solver, times, float(interpolant.sigma(times[0])), until=6)
    alpha, sigma = float(interpolant.alpha(times[6])), float(interpolant.sigma(times[6]))
    # VP starts from N(0, sigma^2) where the path has mean 0.7 * 0.0066; Langevin moves add snr^4
    assert abs(law.mean - 0.7 * alpha) <= 5e-3 if path == "vp" else 1e-12
    assert law.variance == pytest.approx(sigma**2, rel=1e-7)


@pytest.mark.parametrize("kind", [Ancestral, Ancestral2S])
def test_the_share_of_noise_is_its_standard_deviation(kind):
    """``eta_ddim kappa_+ sqrt(kappa^2 - kappa_+^2) / kappa`` in the frame of kappa."""
    process = ContinuousProcess.of(gaussian(interpolant=EDM_PATH), SDE())
    times = kappa_grid(process, 6, KAPPA_MAX, KAPPA_MIN)
    kernel, look = kind(eta_ddim=0.3).build(process, times), looker(process, times)
    x = torch.ones(2, 1, dtype=torch.float64)
    for level in range(6):
        before, after = (float(EDM_PATH.kappa(t)) for t in times[level : level + 2])
        move = kernel(process.evaluate(x, times[level]), (), level, look, x)
        assert float(move.std) == pytest.approx(0.3 * after * math.sqrt(before**2 - after**2) / before)


@pytest.mark.parametrize("diffusion", ["sigma", 0.5, Natural(0.3)], ids=str)
@pytest.mark.parametrize(
    "solver", [EulerMaruyama(), Ancestral(), SDE2M(), SDE3M(), NoiseSDE2M(), Ancestral2S()], ids=repr
)
def test_short_steps_add_the_noise_that_was_asked_for(solver, diffusion):
    """Marginals do not show it: they are those of any amount."""
    process = ContinuousProcess.of(gaussian(interpolant="linear"), SDE(diffusion=diffusion))
    times = torch.tensor([0.4, 0.4995, 0.5, 0.5005, 1.0], dtype=torch.float64)
    kernel, look = solver.build(process, times), looker(process, times)
    x = torch.ones(2, 1, dtype=torch.float64)
    move = kernel(process.evaluate(x, times[2]), [x] * kernel.history, 2, look, x)
    # a step of 0.001 of the noise level: its square differs from g^2 h by some thousandths
    assert float(move.std) ** 2 == pytest.approx(0.0005 * process.g(0.50025) ** 2, rel=0.01)


def test_first_step_from_pure_noise_is_the_exponential_one():
    process = ContinuousProcess.of(gaussian(interpolant="linear"), SDE())
    times = grids.uniform(process.interpolant, 9, 0.0)
    laws = [
        affine_law(process, s, times, 1.0, until=1)
        for s in (Ancestral(), SDE3M(), NoiseSDE2M(), Ancestral2S(), DPMSDE(), EulerMaruyama())
    ]
    for law in laws:
        assert law.mean == pytest.approx(laws[0].mean, rel=1e-12)
        assert law.variance == pytest.approx(laws[0].variance, rel=1e-12)


@dataclass(frozen=True)
class NoiseFirst(Heun):
    """Heun's method for the SDE at the old time after all the noise: weak order 1 only."""

    is_stochastic = True
    order = 2

    def build(self, process, times):
        path = process.interpolant

        def step(note):
            schedule, level = note.schedule, note.level
            kappa, after = schedule.kappa(level), schedule.kappa(level + 1)
            y = note.x / schedule.alpha[level] + math.sqrt(kappa**2 - after**2) * note.z()
            first = (y - note.denoised(float(path.alpha(schedule.t[level])) * y, schedule.t[level])) / kappa
            guess = y + 2 * (after - kappa) * first
            t = schedule.t[level + 1]
            second = (guess - note.denoised(float(path.alpha(t)) * guess, t)) / after
            return float(path.alpha(t)) * (y + (after - kappa) * (first + second))

        return StagedSDE.build(Schedule.of(process, times), step, looks=3)


def test_the_battery_refuses_a_step_that_adds_its_noise_first():
    assert slope([abs(e) for e in variance_errors(NoiseFirst(), (128, 256))]) == pytest.approx(1, abs=0.1)
    with pytest.raises(AssertionError):
        check_order(NoiseFirst())


def test_the_table_of_moves_is_that_of_the_path_on_edm_models():
    """Converting the model to another path leaves a solver in kappa where it was."""
    model = gm2(EDM(sigma_max=20.0, sigma_min=0.001))
    generator = torch.Generator().manual_seed(1)
    x, *z = torch.randn(9, 20, 2, dtype=torch.float64, generator=generator)
    for solver, view in ((Churn(s_churn=5.0), ODE), (Ancestral2S(), SDE), (DPMSDE(), SDE), (SDE3M(), SDE)):
        ends = []
        for path in (None, "linear"):
            process = ContinuousProcess.of(model, view(interpolant=path))
            times = kappa_grid(process, 7, 20.0, 0.05)
            scale = float(process.interpolant.sigma(times[0]))
            end = drive(
                process, solver, times, scale * x, lambda k, j=0: z[k] if j == 0 else z[k].flip(0), until=7
            )
            ends.append(end / float(process.interpolant.alpha(times[7])))
        torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-9)
