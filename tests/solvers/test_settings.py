"""Settings of solvers: refusals come before any network call, levels may differ between rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import itscale
from itscale import grids, models
from itscale.engine import Rows, Worker
from itscale.engine.worker import Place
from itscale.errors import ConfigError, UnknownName
from itscale.methods import SMC, Needs
from itscale.noise import Address, Noise
from itscale.preparation import prepare
from itscale.process import ODE, SDE, ContinuousProcess
from itscale.solvers import ALIASES, DPMSDE, SOLVERS, Ancestral, Ancestral2S, Churn, Langevin, get_solver
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
    wrong = ODE() if SOLVERS[name]().is_stochastic else SDE()
    with pytest.raises(ConfigError, match="process"):
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


@pytest.mark.parametrize("name", [n for n in SOLVERS if is_noisy(n)])
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
    mixed, *_ = worker.propose(worker.look(Rows(x), level, at), level, at)
    for k in range(5):
        chosen = (level == k).nonzero().flatten()
        here = Place(at.address[chosen], at.group[chosen])
        alone, *_ = worker.propose(worker.look(Rows(x[chosen]), k, here), k, here)
        torch.testing.assert_close(mixed.x[chosen], alone.x, rtol=1e-12, atol=1e-12)
