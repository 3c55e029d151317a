"""Every solver with noise under a particle method: its cost, its bits, the weight of a guided move."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch

import itscale
from itscale.engine import Rows, Worker
from itscale.engine.messages import Place
from itscale.methods import SMC, NestedSMC
from itscale.noise import Address, Noise
from itscale.preparation import prepare
from itscale.solvers import GMSDE, SOLVERS, Langevin, shares_of
from tests.engine.setting import CountingReward, Network, total, wrapped
from tests.oracles import mixture_2d

NETWORKS = [kind for kind in SOLVERS.values() if kind is not GMSDE]  # which needs a mixture
NOISY = [s for s in (kind() for kind in NETWORKS) if s.is_stochastic or hasattr(s, "brings_noise")]
NOISY += [Langevin(corrections=2)]
METHODS = [SMC(particles=6, ess_threshold=1.0), NestedSMC(particles=3, children=3)]
TENSORS = ("samples", "states", "rewards", "log_weights", "log_evidence", "ess")


def view_for(solver):
    return itscale.SDE() if solver.is_stochastic else itscale.ODE()


def run(network, solver, method=METHODS[0], groups=(0, 3, 5), pool=None, **more):
    settings = {"steps": 6, "grid": "log-snr", "process": view_for(solver), "solver": solver, **more}
    return itscale.sample(
        wrapped(network),
        reward=settings.pop("reward", total),
        method=method,
        groups=list(groups),
        condition=[float(g) for g in groups],
        seed=4,
        pool=pool or itscale.pools.Local(microbatch=4, bitwise=True),
        **settings,
    )


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("solver", NOISY, ids=repr)
def test_groups_give_equal_bits_together_and_alone_and_cost_what_was_planned(solver, method):
    network, reward = Network(), CountingReward()
    together = run(network, solver, method, reward=reward)
    alone = run(Network(), solver, method, groups=(3,))
    for name in TENSORS:
        whole = getattr(together, name)
        part = whole.narrow(1 if name == "ess" else 0, 1, 1)
        assert torch.equal(getattr(alone, name), part), name
    spent = together.spent
    assert network.rows == sum(spent.model_rows) + spent.padding_rows
    assert reward.samples == sum(spent.reward_calls)
    plan = prepare(
        wrapped(Network()),
        reward=total,
        method=method,
        steps=6,
        grid="log-snr",
        process=view_for(solver),
        solver=solver,
    ).plan
    assert spent.nfe == [plan.nfe] * 3
    assert spent.reward_calls == [plan.reward_calls] * 3


@pytest.mark.parametrize("solver", NOISY, ids=repr)
def test_noise_does_not_depend_on_the_micro_batch(solver):
    runs = [
        run(Network(), solver, SMC(particles=6, ess_threshold=0.0), pool=itscale.pools.Local(microbatch=m))
        for m in (2, 7, 64)
    ]
    for other in runs[1:]:
        torch.testing.assert_close(other.samples, runs[0].samples, rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class Recording:
    """A kernel that keeps the noise it was given."""

    inner: object
    seen: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, at, history, level, look, z):
        self.seen.append(z)
        return self.inner(at, history, level, look, z)


@dataclass(frozen=True)
class Same:
    """One shift for all rows."""

    shift: torch.Tensor
    wants_context: ClassVar[bool] = False

    def __call__(self, view):
        return self.shift.expand_as(view.here.x)


@pytest.mark.parametrize("solver", NOISY, ids=repr)
def test_a_guided_move_is_weighted_by_the_densities_of_all_its_noise(solver):
    """The recorded ratio is log N(z) - log N(z - shift) over every normal of the move."""
    model = mixture_2d()
    setup = prepare(model, process=view_for(solver), solver=solver, steps=6, grid="log-snr")
    kernel = Recording(setup.kernel)
    worker = Worker(setup.process, kernel, setup.times, Noise(3), None, None, [None], torch.float64)
    rows = 500
    zero = torch.zeros(rows, dtype=torch.int64)
    at = Place(Address(zero, zero, torch.arange(rows), zero), zero)
    x = torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([0.4, -0.3], dtype=torch.float64)
    for level in [k for k in range(1, 5) if setup.kernel.is_noisy(k)][:2]:
        here, _ = worker.look(Rows(x), level, at)
        plain, none, _ = worker.propose(here, level, at)
        guided, ratio, _ = worker.propose(here, level, at, guide=Same(shift))
        assert none is None
        z, shifted = kernel.seen[-2:]
        shares = shares_of(setup.kernel, level)
        spread = shift if shares is None else torch.tensor(shares, dtype=torch.float64)[:, None] * shift
        torch.testing.assert_close(shifted, z + spread, rtol=1e-12, atol=1e-12)
        exact = (z.square() - shifted.square()).flatten(1).sum(1) / 2
        torch.testing.assert_close(ratio, exact, rtol=1e-12, atol=1e-12)
        # and it makes guided moves count as the plain ones: 500 rows, 4.89 standard errors
        weighted = ratio.exp()[:, None] * guided.x - plain.x
        error = weighted.std(0) / rows**0.5
        assert (weighted.mean(0).abs() <= 4.89 * error).all()


def test_several_normals_are_drawn_apart():
    model = mixture_2d()
    setup = prepare(model, process=itscale.SDE(), solver="dpm++sde", steps=6, grid="log-snr")
    kernel = Recording(setup.kernel)
    worker = Worker(setup.process, kernel, setup.times, Noise(3), None, None, [None], torch.float64)
    rows = 4000  # one micro-batch
    zero = torch.zeros(rows, dtype=torch.int64)
    at = Place(Address(zero, zero, torch.arange(rows), zero), zero)
    worker.propose(worker.look(Rows(torch.zeros(rows, 2, dtype=torch.float64)), 2, at)[0], 2, at)
    flat = kernel.seen[-1].flatten(1)
    moments = flat.T @ flat / rows
    # entries have standard errors of 1/sqrt(4000), times sqrt(2) on the diagonal
    assert ((moments - torch.eye(4, dtype=torch.float64)).abs() <= 4.89 * (2 / rows) ** 0.5).all()
    other = Place(replace(at.address, move=zero + 1), zero)
    worker.propose(worker.look(Rows(torch.zeros(rows, 2, dtype=torch.float64)), 2, other)[0], 2, other)
    assert not (kernel.seen[-1] == kernel.seen[-2]).any()
