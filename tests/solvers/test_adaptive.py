"""The adaptive solver: errors follow the tolerance, samples do not depend on company, looks are counted."""

from __future__ import annotations

import itertools

import pytest
import torch

import itscale
from itscale import grids
from itscale.budget import Budget
from itscale.errors import ConfigError
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import AdaptiveDPM, DPMSolver3S
from itscale.solvers.linear_update import combine
from tests.contracts.solvers import EDM_PATH, KAPPA_MAX, KAPPA_MIN, reference_ends
from tests.engine.setting import Network, wrapped
from tests.oracles import gm2, mixture_2d
from tests.solvers.drive import drive, kappa_grid, looker

TIGHT = AdaptiveDPM(rtol=1e-3, atol=1e-3)


def errors(solver, moves=8):
    process = ContinuousProcess.of(gm2(EDM_PATH), ODE())
    start, truth = reference_ends(256)
    grid = kappa_grid(process, moves, KAPPA_MAX, KAPPA_MIN)
    end = drive(process, solver, grid, start, until=moves)
    return (end - truth).square().sum(1).sqrt()


def test_errors_fall_with_the_tolerance():
    tolerances = (0.3, 0.03, 0.003)
    found = [float(errors(AdaptiveDPM(r, r, halvings=5), 4).square().mean().sqrt()) for r in tolerances]
    assert all(b < a / 4 for a, b in itertools.pairwise(found))
    assert all(error < r for error, r in zip(found, tolerances, strict=True))


def test_without_halving_it_is_the_singlestep_solver():
    plain = errors(DPMSolver3S())  # which sums in another order
    torch.testing.assert_close(errors(AdaptiveDPM(1e-9, 1e-9, halvings=0)), plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(errors(AdaptiveDPM(1e3, 1e3)), plain, rtol=0, atol=1e-12)


def test_halving_every_step_is_the_singlestep_solver_on_the_halved_grid():
    process = ContinuousProcess.of(mixture_2d(), ODE())
    kappa = 2.0 ** torch.linspace(4, -4, 17, dtype=torch.float64)
    fine, coarse = (
        torch.cat([process.interpolant.t_of_kappa(k), torch.ones(1).double()]) for k in (kappa, kappa[::2])
    )
    x = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    halved = drive(process, AdaptiveDPM(1e-12, 1e-12, halvings=1), coarse, x)
    torch.testing.assert_close(halved, drive(process, DPMSolver3S(), fine, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t_start", [0.0, 0.1])
def test_the_embedded_result_is_of_second_order(t_start):
    """The estimate of one step shrinks by 2^3 when the step is halved, from pure noise and elsewhere."""
    process = ContinuousProcess.of(mixture_2d(), ODE())
    x = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes = []
    for h in (0.02, 0.01):
        times = torch.tensor([t_start, t_start + h, 1.0], dtype=torch.float64)
        interval = AdaptiveDPM(halvings=0).build(process, times).intervals[0]
        look, known = looker(process, times), [process.evaluate(x, times[0]).denoised]
        (*inner, end), embedded = interval.results
        for stage in inner:
            known.append(look(combine(stage.form, x, known), stage.t).denoised)
        third, second = (combine(s.form, x, known) for s in (end, embedded))
        sizes.append(float((third - second).square().mean().sqrt()))
    assert 6.5 < sizes[0] / sizes[1] < 9.5


@pytest.mark.parametrize(("rtol", "atol"), [(1.0, 1e-9), (1e-9, 1.0), (1.0, 0.5)])
def test_a_step_is_halved_where_its_scaled_error_exceeds_one(rtol, atol):
    process = ContinuousProcess.of(mixture_2d(), ODE())
    times = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    x = torch.randn(1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    interval = AdaptiveDPM(halvings=0).build(process, times).intervals[0]
    look, known = looker(process, times), [process.evaluate(x, times[0]).denoised]
    (*inner, end), embedded = interval.results
    for stage in inner:
        known.append(look(combine(stage.form, x, known), stage.t).denoised)
    third, second = (combine(s.form, x, known) for s in (end, embedded))
    error = float(((third - second) / (atol + rtol * third.abs())).square().mean().sqrt())
    for share, looks in ((1.01, 2), (0.99, 2 + 1 + 2 * 2)):
        solver = AdaptiveDPM(rtol * error * share, atol * error * share, halvings=1)
        kernel = solver.build(process, times)
        move = kernel(process.evaluate(x, times[0]), (), 0, look, None)
        assert move.looks.tolist() == [looks]


def test_halves_are_equal_in_log_snr_and_from_pure_noise_in_its_inverse():
    process = ContinuousProcess.of(mixture_2d(), ODE())
    kernel = AdaptiveDPM().build(process, torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64))
    (first, second), (third, _) = (interval.halves for interval in kernel.intervals)
    assert 1 / float(process.interpolant.kappa(first.t_next)) == pytest.approx(0.25 / 2)
    assert float(process.interpolant.kappa(third.t_next)) == pytest.approx(2.0)  # of 4 and 1
    assert (first.t_next, first.halvings) == (second.t, 2)


def test_a_sample_does_not_depend_on_those_beside_it():
    process = ContinuousProcess.of(mixture_2d(), ODE())
    times = grids.uniform(process.interpolant, 5, 0.0)
    x = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = drive(process, TIGHT, times, x)
    for rows in (slice(0, 1), slice(3, 20)):
        torch.testing.assert_close(
            drive(process, TIGHT, times, x[rows]), together[rows], rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("microbatch", [1, 4, 100])
def test_looks_are_charged_as_they_are_made(microbatch):
    network = Network()
    result = itscale.sample(
        wrapped(network),
        n=5,
        groups=3,
        steps=4,
        condition=[0.3, 1.0, -2.0],
        solver=TIGHT,
        pool=itscale.pools.Local(microbatch=microbatch),
    )
    spent = result.spent.nfe
    assert network.rows == sum(spent)
    assert all(s > 5 * (4 + 3 * 2) for s in spent)  # more than a single attempt each
    assert all(s < 5 * (4 + 3 * 37) for s in spent)
    assert len(set(spent)) > 1  # groups of other conditions are of other difficulty


def test_a_budget_is_planned_with_the_most_and_not_exceeded():
    network = Network()
    most = 4 + 3 * 37
    with pytest.raises(ConfigError, match=f"nfe = {5 * most}"):
        itscale.sample(
            wrapped(network), n=5, steps=4, condition=1.0, solver=TIGHT, budget=Budget(nfe=5 * most - 1)
        )
    assert network.rows == 0
    enough = Budget(nfe=5 * most)
    result = itscale.sample(wrapped(network), n=5, steps=4, condition=1.0, solver=TIGHT, budget=enough)
    assert result.spent.nfe[0] < 5 * most


@pytest.mark.parametrize(
    "options", [{"rtol": 0.0}, {"atol": -1.0}, {"rtol": float("nan")}, {"halvings": 7}, {"halvings": 1.5}]
)
def test_bad_tolerances_are_refused(options):
    with pytest.raises(ConfigError, match=f"AdaptiveDPM needs .*{next(iter(options))}"):
        AdaptiveDPM(**options)
