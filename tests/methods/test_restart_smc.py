"""Restart with particles: the tilted law through ``sample``, and settings that cannot work."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import SMC, RestartSMC
from itscale.solvers import Interval, Restart
from tests.engine.setting import CountingReward, Network, make_engine, total, wrapped
from tests.methods.problem import errors, run
from tests.oracles import mixture_2d

CYCLES = (Interval(kappa_min=0.25, kappa_max=1.0, points=7, repeats=2),)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (RestartSMC(particles=128, intervals=CYCLES), {"solver": "2m-sde"}),
        (RestartSMC(particles=128, intervals=CYCLES, rule="weight", inner="heun"), {"solver": "2m-sde"}),
        # difference potentials weight whatever moved a particle: a Restart inside the solver as well
        (SMC(particles=128), {"solver": Restart(CYCLES), "process": itscale.ODE()}),
        (SMC(particles=128), {"solver": Restart(CYCLES, main="2m-sde", inner="2m-sde")}),
    ],
    ids=["accepted", "weighted", "inside the ode solver", "inside the sde solver"],
)
def test_the_tilted_law_is_reached_with_cycles(method, settings):
    """32 runs of 128 particles; the standard errors are those of ``test_convergence``, 1.5 to 2 times."""
    found = errors(run(method, groups=32, **settings))
    assert abs(found.expected_reward) <= 0.15
    assert abs(found.log_evidence) <= 0.15
    assert found.modes <= 0.15


def test_cycles_are_the_only_noise_an_ode_run_needs():
    """SMC accepts the ODE where its solver restarts, and copies part there."""
    result = run(SMC(particles=16, ess_threshold=1.0), groups=2, process=None, solver=Restart(CYCLES))
    assert result.config["process"]["name"] == "ODE"
    for group in result.samples:
        assert len(group.unique(dim=0)) == 16


def test_rejected_particles_stay_as_they_were_and_accepted_ones_bring_everything():
    engine = make_engine(wrapped(Network()), steps=6, solver="2m-sde")
    p = engine.start(50)
    for _ in range(4):
        p = engine.score(engine.look(p))
        p = engine.propose(p)
    p = engine.score(engine.look(p))
    q = engine.score(engine.look(replace_rows(engine, p)))
    assert torch.equal(q.level, p.level)
    assert q.rows.history == ()
    ratio = torch.where(torch.arange(50) % 3 == 0, torch.inf, -torch.inf).double().expand(2, 50)
    done = engine.accept(p, q, ratio)
    taken = (ratio > 0).reshape(-1)
    for part, source in ((taken, q), (~taken, p)):
        for name in ("x", "raw"):
            assert torch.equal(getattr(done.rows, name)[part], getattr(source.rows, name)[part])
        for name in ("reward", "value", "scored", "eve"):
            mine, theirs = getattr(done, name), getattr(source, name)
            assert torch.equal(mine.reshape(-1)[part], theirs.reshape(-1)[part])
    assert torch.equal(done.rows.depths, (~taken).long())  # who stays keeps its memory, who jumped has none
    assert torch.equal(done.rows.history[0][~taken], p.rows.history[0][~taken])
    assert (done.move == q.move + 1).all()


def replace_rows(engine, p):
    from itscale.solvers import get_solver
    from itscale.solvers.restart import Cycle, CycleKernel

    cycle = Cycle.build(
        engine.process,
        float(engine.times[4]),
        Interval(kappa_min=0.5, kappa_max=2.0),
        get_solver("2m-sde"),
        7.0,
    )
    return engine.mutate(p, CycleKernel(cycle))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rule": "none"}, "rule must be 'metropolis' or 'weight'.*back to the untilted law"),
        ({"inner": "heun"}, "come down by the reverse SDE.*Heun solves the ODE"),
        ({"inner": "hoin"}, "Did you mean"),
        ({"inner": Restart()}, "inner must be a plain solver"),
        ({"intervals": ()}, "one or more Interval"),
        ({"particles": 0}, "particles must be"),
        ({"ess_threshold": 2.0}, "ess_threshold"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        RestartSMC(**setting)


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        ((Interval(kappa_min=0.01, kappa_max=1.0),), "outside the grid"),
        (
            (Interval(kappa_min=0.5, kappa_max=1.0), Interval(kappa_min=0.51, kappa_max=2.0)),
            "two restart intervals belong to one level",
        ),
    ],
)
def test_intervals_that_do_not_fit_the_grid_are_refused_before_any_call(intervals, message):
    network, reward = Network(), CountingReward()
    with pytest.raises(ConfigError, match=message):
        itscale.sample(
            wrapped(network),
            reward=reward,
            method=RestartSMC(intervals=intervals),
            steps=6,
            condition=1.0,
        )
    assert network.rows == reward.samples == 0


def test_an_ode_has_no_noise_for_it():
    with pytest.raises(ConfigError, match="noise"):
        itscale.sample(mixture_2d(), reward=total, method=RestartSMC(), process=itscale.ODE())
