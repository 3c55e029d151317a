"""Schedules of orders and predictions: known methods, mixed tables, files, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import itscale
from itscale import grids, models
from itscale.errors import ConfigError
from itscale.grids import Ratios
from itscale.interpolants import EDM
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import DDIM, DEIS, Choice, DPMSolver3M, Scheduled, SolverSchedule, UniPC
from itscale.solvers.scheduled import _integrals
from tests.contracts.solvers import CHECKS, EDM_PATH, KAPPA_MAX, check_order, ode_errors
from tests.oracles import gm2, mixture_2d
from tests.solvers.drive import drive, kappa_grid

MIXED = tuple(Choice(1 + i % 3, ("denoised", "noise")[i % 2], corrector=i % 2 == 0) for i in range(5))


def end(solver, moves: int = 12) -> torch.Tensor:
    process = ContinuousProcess.of(gm2(EDM_PATH), ODE())
    start = KAPPA_MAX * torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return drive(process, solver, kappa_grid(process, moves, KAPPA_MAX, 0.05), start, until=moves)


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        (Choice(1), DDIM()),
        (Choice(1, "noise"), DDIM()),
        (Choice(2, "noise"), DEIS(2, "log-kappa")),
        (Choice(3, "noise"), DEIS(3, "log-kappa")),
        (Choice(4, "noise"), DEIS(4, "log-kappa")),
    ],
    ids=repr,
)
def test_one_choice_for_all_is_a_known_method(choice, known):
    torch.testing.assert_close(end(Scheduled((choice,))), end(known), rtol=0, atol=1e-9)


def test_from_its_third_step_on_the_third_order_method_is_dpm_solver_3m():
    """Tables, since second steps differ: 3M takes half the step's B there, this the exact integral."""
    process = ContinuousProcess.of(gm2(EDM_PATH), ODE())
    times = kappa_grid(process, 10, KAPPA_MAX, 0.05)
    mine, known = (s.build(process, times) for s in (Scheduled((Choice(3),)), DPMSolver3M()))
    torch.testing.assert_close(mine.a[2], known.a[2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mine.b[2, 2:], known.b[2, 2:], rtol=1e-9, atol=1e-12)
    assert float((mine.b[1, 1] - known.b[1, 1]).abs().max()) > 1e-4


def test_the_corrected_method_of_second_order_is_unipc():
    """Both have order 3; they differ in the weight of a single difference, B(h) / 2 or exact."""
    mine, known = (ode_errors(s, (64, 128)) for s in (Scheduled((Choice(2, corrector=True),)), UniPC(2)))
    for a, b in zip(mine, known, strict=True):
        assert 0.75 < a / b < 1.25  # one method up to B(h), whose constants differ by tenths


@pytest.mark.parametrize("h", [0.3, 2.0])
@pytest.mark.parametrize(("kind", "sign"), [("denoised", -1), ("noise", 1)])
def test_integrals_are_those_of_the_exponential(h, kind, sign):
    s = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for k, found in enumerate(_integrals(h, 4, kind)):
        exact = h * float((torch.exp(sign * h * (1 - s)) * s**k).mean()) / math.factorial(k)
        assert found == pytest.approx(exact, rel=1e-6)  # the midpoint rule: h^2 / (24 4000^2)


def test_a_mixed_schedule_has_the_order_of_its_choices():
    errors = []
    for moves in (64, 128):
        kinds = ("denoised", "noise")
        choices = tuple(Choice(3, kinds[i % 2], corrector=i % 3 == 0) for i in range(moves))
        errors += ode_errors(Scheduled(choices), (moves,))
    assert Scheduled(choices).order == 3
    assert Scheduled(choices).history == 2 * 3
    assert 2.7 < math.log2(errors[0] / errors[1]) < 4.2  # corrected steps have a fourth order


@pytest.mark.parametrize("check", [c for c in CHECKS if c is not check_order], ids=lambda c: c.__name__)
def test_a_mixed_schedule_passes_the_battery(check):
    check(Scheduled(MIXED))


def extrapolated(where, values, slope_points, relax, h, sign):
    """Integral of ``e^(sign (h - s))`` over [0, h] against the Taylor polynomial through the values."""

    def derivatives(count):
        matrix = [[w**k / math.factorial(k) for k in range(1, count + 1)] for w in where[1 : 1 + count]]
        changes = torch.stack([v - values[0] for v in values[1 : 1 + count]])
        return torch.einsum("ij,j...->i...", torch.tensor(matrix, dtype=torch.float64).inverse(), changes)

    found = []
    if len(where) > 1:
        found = list(derivatives(len(where) - 1))
        found[0] = derivatives(slope_points or len(where) - 1)[0] * (1 + relax * h)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    total = 0
    for node, weight in zip(h * (nodes + 1) / 2, h * weights / 2, strict=True):
        inside = values[0] + sum(d * node**k / math.factorial(k) for k, d in enumerate(found, 1))
        total = total + weight * math.exp(sign * (h - node)) * inside
    return total


def test_a_mixed_schedule_is_a_plain_loop_that_keeps_states():
    """States, noises and corrected states kept as such, polynomials integrated by quadrature."""
    model, kappas = gm2(EDM_PATH), [20.0, 9.0, 5.0, 2.5, 1.2, 0.6, 0.3]
    times = torch.cat([EDM_PATH.t_of_kappa(torch.tensor(kappas).double()), torch.ones(1).double()])
    kappas = EDM_PATH.kappa(times[:-1]).tolist()  # in the digits of these times
    lam = [-math.log(k) for k in kappas]
    choices = (
        Choice(1, corrector=True),
        Choice(2, "noise", corrector=True),
        Choice(3, slope_points=1, relax=0.05, corrector=True),
        Choice(3, "noise"),
        Choice(2, relax=-0.1),
        Choice(4, "noise", slope_points=2, corrector=True),
    )
    y = KAPPA_MAX * torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, base, seen = y * 1.0, y, []

    def step(i, start, values, where, choice, few):
        h, sign = lam[i + 1] - lam[i], 1 if choice.prediction == "noise" else -1
        total = extrapolated(where, values, few, choice.relax, h, sign)
        return start - kappas[i + 1] * total if sign == 1 else math.exp(-h) * start + total

    for i, choice in enumerate(choices):
        denoised = model.denoised(y, times[i])
        seen.append({"denoised": denoised, "noise": (y - denoised) / kappas[i]})
        if i and choices[i - 1].corrector:
            c, back = choices[i - 1], range(i - 1, max(i - 1 - choices[i - 1].order, -1), -1)
            points = [back[0], i, *back[1:]]
            values, where = [seen[j][c.prediction] for j in points], [lam[j] - lam[i - 1] for j in points]
            few = None if c.slope_points is None else c.slope_points + 1
            y = step(i - 1, base, values, where, c, few)
        points = range(i, max(i - choice.order, -1), -1)
        values, where = [seen[j][choice.prediction] for j in points], [lam[j] - lam[i] for j in points]
        base, y = y, step(i, y, values, where, choice, choice.slope_points)
    mine = drive(ContinuousProcess.of(model, ODE()), Scheduled(choices), times, x, until=6)
    torch.testing.assert_close(mine, y, rtol=1e-9, atol=1e-9)


def test_a_constant_denoised_sample_is_reached_with_any_memory():
    process = ContinuousProcess.of(gm2(EDM_PATH), ODE())
    times = kappa_grid(process, 5, KAPPA_MAX, 0.05)
    alpha = EDM_PATH.alpha(times)
    kernel = Scheduled(MIXED).build(process, times)
    for depth in range(0, kernel.history + 1, 2):
        on_denoised = kernel.b[depth, :, 0] + kernel.b[depth, :, 1::2].sum(1)
        torch.testing.assert_close(
            kernel.a[depth] * alpha[:-1] + on_denoised, alpha[1:], rtol=1e-12, atol=1e-12
        )


def test_relaxing_the_slope_by_nothing_changes_nothing_and_by_something_leaves_order_2():
    assert torch.equal(end(Scheduled((Choice(3),))), end(Scheduled((Choice(3, relax=0.0),))))
    errors = ode_errors(Scheduled((Choice(2, relax=0.4),)), (128, 256))
    assert 1.85 < math.log2(errors[0] / errors[1]) < 2.15
    changed = ode_errors(Scheduled((Choice(2, relax=0.4),)), (8,))
    assert changed != ode_errors(Scheduled((Choice(2),)), (8,))


def test_orders_are_what_is_said():
    assert [Choice(p).attained for p in (1, 2, 3)] == [1, 2, 3]
    assert Choice(3, slope_points=1).attained == 2
    assert Choice(3, relax=0.1, corrector=True).attained == 2
    assert Scheduled((Choice(3, corrector=True), Choice(2))).order == 2


# -- schedules on file


def test_a_schedule_is_saved_loaded_and_sampled(tmp_path):
    kappas = (20.0, 6.0, 2.0, 0.8, 0.3, 0.05)
    schedule = SolverSchedule(kappas, MIXED, {"model": "gm2", "score": 0.5})
    schedule.save(tmp_path / "found.json")
    again = SolverSchedule.load(tmp_path / "found.json")
    assert again == schedule
    path = EDM(sigma_max=20.0, sigma_min=0.001)
    result = itscale.sample(gm2(path), n=3, seed=1, **again.settings())
    assert result.spent.nfe == [3 * 6]
    assert Scheduled(MIXED).lag == 3
    times = again.grid(path, 6, 0.0)
    torch.testing.assert_close(path.kappa(times[:-1]), torch.tensor(kappas).double(), rtol=1e-5, atol=0)
    assert float(times[-1]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no solver schedule"),
        ("[]", "is no solver schedule"),
        (json.dumps({"kappas": [2.0, 1.0]}), "steps"),
        (json.dumps({"kappas": [2.0, 1.0], "steps": [{"odrer": 2}]}), "odrer"),
        (json.dumps({"kappas": [2.0, 1.0], "steps": [{"order": 7}]}), "order must be"),
        (json.dumps({"kappas": [1.0, 2.0], "steps": [{}]}), "kappas must fall"),
        (json.dumps({"kappas": [2.0, 1.0], "steps": [{}, {}]}), "need 1 choices"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        SolverSchedule.load(path)
    assert "bad.json" in str(error.value)
    with pytest.raises(ConfigError, match="no solver schedule"):
        SolverSchedule.load(tmp_path / "absent.json")


def test_ratios_of_another_path_or_number_are_refused():
    path = EDM(sigma_max=20.0, sigma_min=0.01)
    with pytest.raises(ConfigError, match="made for another path"):
        Ratios((80.0, 1.0))(path, 2)
    with pytest.raises(ConfigError, match="2 kappas are a grid of so many steps"):
        Ratios((10.0, 1.0))(path, 3)
    for bad in ((1.0,), (1.0, 1.0), (1.0, -1.0), (math.inf, 1.0), (math.nan, 1.0)):
        with pytest.raises(ConfigError, match="kappas must fall"):
            Ratios(bad)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"order": 0}, "order must be"),
        ({"order": 5}, "order must be"),
        ({"order": True}, "order must be"),
        ({"prediction": "v3"}, "prediction"),
        ({"order": 2, "slope_points": 2}, "slope_points must be"),
        ({"relax": math.nan}, "relax must be finite"),
    ],
    ids=str,
)
def test_choices_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        Choice(**setting)


def test_a_schedule_of_another_length_is_refused_before_any_call():
    def network(x, t):
        raise AssertionError("called")

    model = models.wrap(network, predicts="velocity", interpolant="linear", event_shape=(2,))
    with pytest.raises(ConfigError, match="5 choices, and 9 steps need 8"):
        itscale.sample(model, n=2, steps=9, solver=Scheduled(MIXED))
    with pytest.raises(ConfigError, match="choices must be a tuple"):
        Scheduled(())
    uniform = grids.uniform(mixture_2d().interpolant, 6, 0.0)
    Scheduled(MIXED).build(ContinuousProcess.of(mixture_2d(), ODE()), uniform)
