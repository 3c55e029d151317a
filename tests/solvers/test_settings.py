"""Settings of solvers: refusals come before any network call, levels may differ between rows."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import itscale
from itscale import grids, models
from itscale.engine import Rows, Worker
from itscale.engine.messages import Place
from itscale.errors import ConfigError, UnknownName
from itscale.methods import SMC, Needs
from itscale.noise import Address, Noise
from itscale.preparation import prepare
from itscale.process import ODE, SDE, ContinuousProcess
from itscale.solvers import (
    ALIASES,
    DEIS,
    DPMSDE,
    GHVB,
    GMSDE,
    IPNDM,
    LMS,
    SOLVERS,
    Ancestral,
    Ancestral2S,
    Churn,
    HeavyBall,
    Langevin,
    Nesterov,
    Restart,
    UniP,
    UniPC,
    get_solver,
)
from tests.contracts.solvers import SOLVER_CASES
from tests.oracles import mixture_2d


def is_noisy(name: str) -> bool:
    return SOLVERS[name]().is_stochastic or getattr(SOLVERS[name], "brings_noise", False)


class Counted:
    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x, t):
        self.rows += len(x)
        return -x


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_refuse_the_other_kind_of_process_before_any_call(name):
    network = Counted()
    model = models.wrap(network, predicts="velocity", interpolant="linear", event_shape=(2,))
    is_stochastic = SOLVERS[name]().is_stochastic
    wrong = ODE() if is_stochastic else SDE()
    message = "is a stochastic solver and the process has no noise; use SDE"
    with pytest.raises(
        ConfigError, match=message if is_stochastic else "solves the ODE and the process is an"
    ):
        itscale.sample(model, n=2, steps=3, process=wrong, solver=name)
    assert network.rows == 0


@pytest.mark.parametrize("name", [n for n in SOLVERS if SOLVERS[n]().is_stochastic])
def test_an_sde_with_coefficient_zero_is_an_ode(name):
    with pytest.raises(ConfigError, match="noise"):
        itscale.sample(mixture_2d(), n=2, steps=3, process=SDE(diffusion="zero"), solver=name)


def test_names_and_aliases_find_their_solver():
    for name in SOLVERS:
        assert type(get_solver(name.upper().replace("-", "_"))) is SOLVERS[name]
    for alias, name in ALIASES.items():
        assert type(get_solver(alias)) is SOLVERS[name]
    with pytest.raises(UnknownName, match="Did you mean"):
        get_solver("huen")
    with pytest.raises(ConfigError, match="solver"):
        get_solver(3)


@pytest.mark.parametrize("kind", [Ancestral, Ancestral2S])
@pytest.mark.parametrize("eta", [0.0, -0.1, 1.1])
def test_ancestral_refuses_a_share_outside_the_unit_interval(eta, kind):
    with pytest.raises(ConfigError, match="eta_ddim"):
        kind(eta_ddim=eta)


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (Langevin, {"snr": 0.0}, "snr must be in"),
        (Langevin, {"snr": 1.0}, "snr must be in"),
        (Langevin, {"corrections": 0}, "corrections must be a whole number"),
        (Langevin, {"corrections": 1.5}, "corrections must be a whole number"),
        (Langevin, {"corrections": True}, "corrections must be a whole number"),
        (Churn, {"s_churn": 0.0}, "for 0 use 'heun'"),
        (Churn, {"s_churn": math.inf}, "s_churn must be positive and finite"),
        (Churn, {"s_min": 2.0, "s_max": 1.0}, "0 <= s_min < s_max"),
        (Churn, {"s_noise": -1.0}, "s_noise must be positive"),
        (DPMSDE, {"clock": "kappa"}, "clock must be 'published' or 'variance'"),
    ],
    ids=str,
)
def test_options_outside_their_range_are_refused(kind, setting, message):
    with pytest.raises(ConfigError, match=message):
        kind(**setting)


@dataclass(frozen=True, kw_only=True)
class ByDensity(SMC):
    """A method that weights by the density of transitions."""

    needs: ClassVar[Needs] = Needs(noise=True, density=True)


@pytest.mark.parametrize("name", [n for n in SOLVERS if is_noisy(n) and SOLVERS[n] is not GMSDE])
def test_methods_that_weight_by_density_refuse_solvers_without_one_before_any_call(name):
    network = Counted()
    model = models.wrap(network, predicts="velocity", interpolant="linear", event_shape=(2,))
    setting = {"reward": lambda x: x[:, 0], "method": ByDensity(particles=2), "steps": 6, "solver": name}
    if SOLVERS[name]().gaussian:
        prepare(model, **setting)
        return
    with pytest.raises(ConfigError, match=r"is not Gaussian; use.*2m-sde"):
        itscale.sample(model, **setting)
    assert network.rows == 0


@pytest.mark.parametrize("name", SOLVERS)
def test_a_worker_moves_rows_of_mixed_levels_as_it_moves_them_level_by_level(name):
    view = SDE() if SOLVERS[name]().is_stochastic else ODE()
    process = ContinuousProcess.of(mixture_2d(), view)
    times = grids.uniform(process.interpolant, 6, 0.0)
    kernel = get_solver(name).build(process, times)
    worker = Worker(process, kernel, times, Noise(3), None, None, [None], torch.float64, microbatch=4)
    rows, level = 11, torch.tensor([0, 3, 1, 4, 2, 2, 1, 3, 0, 4, 1])
    zero = torch.zeros(rows, dtype=torch.int64)
    at = Place(Address(zero, zero, torch.arange(rows), zero), zero)
    x = torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixed, *_ = worker.propose(worker.look(Rows(x), level, at)[0], level, at)
    for k in range(5):
        chosen = (level == k).nonzero().flatten()
        here = Place(at.address[chosen], at.group[chosen])
        alone, *_ = worker.propose(worker.look(Rows(x[chosen]), k, here)[0], k, here)
        torch.testing.assert_close(mixed.x[chosen], alone.x, rtol=1e-12, atol=1e-12)


def refused(solver, **settings) -> None:
    """Run ``sample`` on a network that must not be called."""
    network = Counted()
    model = models.wrap(network, predicts="velocity", interpolant="linear", event_shape=(2,))
    try:
        itscale.sample(model, n=2, solver=solver, **settings)
    finally:
        assert network.rows == 0


PLAIN = [s for s in SOLVER_CASES if not s.is_stochastic and not isinstance(s, Restart)]


@pytest.mark.parametrize("solver", PLAIN, ids=repr)
def test_a_solver_with_more_history_than_steps_is_refused(solver):
    least = max(solver.history + 1, 2 if solver.evaluations > 1 else 1)
    for steps in range(1, least):
        with pytest.raises(ConfigError, match=rf"needs at least {least} steps.*steps is {steps}; .*'ddim'"):
            refused(solver, steps=steps)
    result = itscale.sample(mixture_2d(), n=2, solver=solver, steps=least)
    assert result.samples.isfinite().all()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [0, -1, 1.0])
def test_no_solver_runs_in_no_steps(name, steps):
    process = SDE() if SOLVERS[name].is_stochastic else ODE()
    with pytest.raises(ConfigError, match="steps must be a whole number >= 1"):
        refused(name, steps=steps, process=process)


GRID_OF_ONES_OWN = {
    "falls": ([0.0, 0.5, 0.4, 1.0], "interval 1 does not"),
    "stands": ([0.0, 0.5, 0.5, 1.0], "interval 1 does not"),
    "runs back": ([1.0, 0.6, 0.3, 0.0], "reverse it"),
    "ends too late": ([0.0, 0.5, 0.8, 1.1], "rescale"),
    "starts too early": ([-0.1, 0.5, 0.8, 1.0], "rescale"),
    "is no number": ([0.0, float("nan"), 0.8, 1.0], "must increase"),
    "is too short": ([0.0, 0.5, 1.0], "gave 3 times for 3 steps, not 4"),
}


@pytest.mark.parametrize("name", ["ddim", "unipc", "dpm-3s", "heun"])
@pytest.mark.parametrize("case", GRID_OF_ONES_OWN)
def test_a_bad_grid_of_ones_own_is_refused(name, case):
    times, message = GRID_OF_ONES_OWN[case]

    def grid(interpolant, steps, t_start=0.0):
        return torch.tensor(times, dtype=torch.float64)

    with pytest.raises(ConfigError, match=message):
        refused(name, steps=3, grid=grid)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_kernel_is_not_built_on_a_grid_that_falls(name):
    view = SDE() if SOLVERS[name].is_stochastic else ODE()
    process = ContinuousProcess.of(mixture_2d(), view)
    with pytest.raises(ConfigError, match="must increase"):
        get_solver(name).build(process, torch.linspace(1, 0, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniPC(4), "UniPC needs p = 1, 2 or 3, got 4"),
        (lambda: UniPC(0), "UniPC needs p"),
        (lambda: UniPC(True), "UniPC needs p"),
        (lambda: UniP(2.5), "UniP needs p = 1, 2 or 3, got 2.5"),
        (lambda: UniPC(2, "bh3"), r"unknown B\(h\) of UniPC 'bh3'.*Did you mean .*Known: bh1, bh2"),
        (lambda: DEIS(5), "DEIS needs points from 1 to 4, got 5"),
        (lambda: DEIS(3, "kapa"), "unknown kind of nodes of DEIS 'kapa'.*Did you mean 'kappa'"),
        (lambda: LMS(0), "LMS needs points"),
        (lambda: LMS(2.0), "LMS needs points from 1 to 4, got 2.0"),
        (lambda: IPNDM(5), "IPNDM needs points"),
        (lambda: GHVB(6), "GHVB needs points from 1 to 5, got 6"),
        (lambda: GHVB(2, beta=0.0), r"GHVB needs beta in \(0, 1\], got 0.0"),
        (lambda: HeavyBall(beta=1.5), "HeavyBall needs beta"),
        (lambda: HeavyBall(points=5), "HeavyBall needs points"),
        (lambda: Nesterov(beta=-1.0), "Nesterov needs beta"),
    ],
)
def test_illegal_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("unipcc", "unipc"), ("dpm++3n", "dpm++3m"), ("ipdnm", "ipndm"), ("dies", "deis"), ("rk-4", "rk4")],
)
def test_a_misspelt_solver_is_corrected(typo, meant):
    with pytest.raises(UnknownName, match=rf"Did you mean .*{re.escape(repr(meant))}"):
        refused(typo, steps=5)


def test_a_single_step_by_default_is_the_jump():
    assert itscale.sample(mixture_2d(), n=2, steps=1).spent.nfe == [2]
