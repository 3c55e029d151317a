"""Waste-free SMC: all states of few chains are kept, and together they have the tilted law."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

import itscale
import itscale.preparation
from itscale.errors import BudgetError, ConfigError
from itscale.methods import Redraw, WasteFreeSMC
from itscale.methods.redraw import SLOT
from itscale.solvers import Interval, Restart
from tests.contracts.methods import CYCLES, MEAN, STD, STEPS, TILT, Z, check_claim, reward
from tests.engine.setting import CountingReward, Network, total, wrapped
from tests.methods.mutants import Tampered
from tests.solvers.drive import affine_law, gaussian

CASES = [
    {"particles": 33, "moves": CYCLES, "inner": "sde-heun"},
    {"particles": 32, "moves": (Redraw(start=0.25, end=0.75),)},
]


@dataclass(frozen=True, kw_only=True)
class Mutant(WasteFreeSMC):
    def step(self, engine, state):
        return super().step(self.tamper(engine), state)

    def tamper(self, engine):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class EveryMoveAccepted(Mutant):
    """Chains drift back towards the base law."""

    def tamper(self, engine):
        return Tampered(engine, accept=lambda engine, p, q, ratio: engine.accept(p, q, ratio.abs()))


@dataclass(frozen=True, kw_only=True)
class DrawnBlindly(Mutant):
    """The few that survive are not drawn by weight."""

    def tamper(self, engine):
        def resample(engine, p, rule, scheme, n=None):
            if n is None:
                return engine.resample(p, rule, scheme)
            flat = replace(p, log_weights=torch.zeros_like(p.log_weights))
            return engine.resample(flat, rule, scheme, n)

        return Tampered(engine, resample=resample)


@dataclass(frozen=True, kw_only=True)
class WeightTakenTwice(Mutant):
    """The mean weight goes into the evidence and stays on the particles."""

    def tamper(self, engine):
        def resample(engine, p, rule, scheme, n=None):
            done = engine.resample(p, rule, scheme, n)
            gain = done.log_evidence - p.log_evidence
            return done if n is None else replace(done, log_weights=done.log_weights + gain[:, None])

        return Tampered(engine, resample=resample)


@dataclass(frozen=True, kw_only=True)
class ValueLeftBehind(Mutant):
    """Accepted states remember what the state before them had been weighted by."""

    def tamper(self, engine):
        def accept(engine, p, q, ratio):
            return engine.accept(p, replace(q, carry=p.carry), ratio)

        return Tampered(engine, accept=accept)


@pytest.mark.parametrize("case", CASES, ids=["cycles", "redraws"])
@pytest.mark.parametrize("mutant", [EveryMoveAccepted, DrawnBlindly, WeightTakenTwice, ValueLeftBehind])
def test_a_fault_in_drawing_moving_or_keeping_breaks_the_claim(mutant, case):
    with pytest.raises(AssertionError):
        check_claim(mutant(**case))


def estimates(method, solver, **settings):
    """``Z-hat``, and ``Z-hat`` times the error of a weighted mean, in standard errors of 1000 runs."""
    model = gaussian(MEAN, STD)
    setup = itscale.preparation.prepare(
        model, process=itscale.SDE(diffusion=0.8), solver=solver, steps=STEPS, grid="uniform"
    )
    law = affine_law(setup.process, solver, setup.times, 1.0)
    result = itscale.sample(
        model,
        reward=reward,
        method=method,
        steps=STEPS,
        tilt=TILT,
        groups=1000,
        seed=3,
        process=setup.view,
        solver=solver,
        **settings,
    )
    evidence = (result.log_evidence - TILT * law.mean - TILT**2 * law.variance / 2).exp()
    off = result.expect(result.rewards).per_group - law.mean - TILT * law.variance
    found = [(evidence - 1), evidence * off]
    return [float(e.mean() / e.std()) * math.sqrt(1000) for e in found]


LONG = WasteFreeSMC(particles=16, moves=(Redraw(start=0.4, end=0.8, repeats=7),))


@pytest.mark.parametrize("solver", ["ancestral", "2m-sde", "sde-heun"])
def test_redraws_are_right_for_the_few_steps_of_any_solver(solver):
    """Eight coarse steps, with a memory or looks inside: what counts is the law of the sampler."""
    assert max(abs(z) for z in estimates(LONG, solver)) < Z


def test_cycles_are_right_for_fine_steps_only():
    """The same few steps with cycles: their way down is another sampler than the one whose law is tilted."""
    cycles = WasteFreeSMC(
        particles=16, moves=(Interval(kappa_min=0.3, kappa_max=3.0, points=2, repeats=7),), inner="ancestral"
    )
    assert max(abs(z) for z in estimates(cycles, "ancestral")) > Z


@dataclass(frozen=True, kw_only=True)
class AnothersPast(Mutant):
    """States are made anew from the past of the slot, not from their own."""

    def tamper(self, engine):
        def resample(engine, p, rule, scheme, n=None):
            done = engine.resample(p, rule, scheme, n)
            if SLOT not in done.carry:
                return done
            slots = torch.arange(done.n).expand(done.groups, -1)
            return replace(done, carry={**done.carry, SLOT: slots})

        return Tampered(engine, resample=resample)


def test_a_redraw_goes_back_to_the_particles_own_past():
    mutant = AnothersPast(particles=16, moves=LONG.moves)
    assert max(abs(z) for z in estimates(mutant, "ancestral")) > Z


@pytest.mark.parametrize(
    ("move", "looks", "level"),
    [
        (Interval(kappa_min=0.5, kappa_max=2.0, points=3, repeats=3), 2 + 1, 4),
        (Redraw(start=0.3, end=0.7), 2, 4),
    ],
    ids=["cycle", "redraw"],
)
def test_it_pays_for_the_moves_of_the_few_and_keeps_all_their_states(move, looks, level):
    network, counted = Network(), CountingReward()
    method = WasteFreeSMC(particles=12, moves=(move,), ess_threshold=0.0)
    seen = []
    result = itscale.sample(
        wrapped(network), reward=counted, method=method, steps=6, condition=1.0, on_step=seen.append
    )
    assert result.spent.nfe == [12 * 6 + 3 * 3 * looks] == [network.rows]
    assert result.spent.reward_calls == [12 * 6 + 3 * 3] == [counted.samples]
    assert result.notes["moves tried"] == 3 * 3
    after = [len(step.particles.eve.unique()) for step in seen]
    assert after[:level] == [12] * level
    assert after[level] <= 3  # three survive there, and all that follows stems from them
    assert len(result.samples[0].unique(dim=0)) == 12
    assert result.ancestors is not None
    assert result.lineage().shape == (7, 1, 12)
    eves = seen[-1].particles.eve
    assert torch.equal(result.lineage()[0].gather(1, torch.arange(12)[None]), eves)


def test_several_moves_may_keep_chains_of_different_lengths():
    moves = (
        Interval(kappa_min=0.3, kappa_max=0.8, repeats=1),
        Redraw(start=0.25, end=0.5, repeats=2),
        Redraw(start=0.0, end=0.25, repeats=1),
    )
    assert WasteFreeSMC(moves=moves).multiple == 6
    result = itscale.sample(
        gaussian(0, 1), reward=total, method=WasteFreeSMC(moves=moves), steps=8, particles=12
    )
    assert result.particles == 12
    assert result.notes["moves tried"] == 6 + 8 + 6


def test_without_a_tilt_every_move_is_accepted_and_nothing_weighs():
    result = itscale.sample(gaussian(0, 1), reward=total, method=WasteFreeSMC(), tilt=0.0, steps=8)
    assert result.notes["moves accepted"] == result.notes["moves tried"] == 4 * 3
    assert (result.log_weights == 0).all()
    assert (result.log_evidence == 0).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"particles": 30}, r"particles must be a multiple of 4 \(1 \+ repeats of every move\), got 30"),
        ({"particles": 0}, "particles must be a whole number"),
        ({"moves": ()}, "one or more Redraw"),
        ({"moves": CYCLES, "inner": "heun"}, "Heun solves the ODE: use inner='2m-sde', or a Redraw"),
        ({"moves": CYCLES, "inner": Restart()}, "inner must be a plain solver"),
        ({"moves": (Redraw(), Redraw(start=0.4, end=0.6))}, "redraws overlap"),
        ({"ess_threshold": 2.0}, "ess_threshold"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        WasteFreeSMC(**setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"start": 0.5, "end": 0.5}, "0 <= start < end <= 1"),
        ({"end": 1.5}, "0 <= start < end <= 1"),
        ({"repeats": 0}, "repeats must be"),
    ],
    ids=str,
)
def test_redraws_that_make_nothing_anew_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        Redraw(**setting)


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        ((Interval(kappa_min=0.01, kappa_max=1.0),), "outside the grid"),
        ((Redraw(start=0.5, end=0.55),), "falls on levels 3 and 3 of 6 steps"),
        ((Redraw(end=1.0),), "two levels before the end"),
        (
            (Redraw(start=0.2, end=0.8), Interval(kappa_min=0.9, kappa_max=1.5)),
            "makes levels 1 to 5 anew, and a cycle at level 3",
        ),
    ],
)
def test_moves_that_do_not_fit_the_grid_are_refused_before_any_call(moves, message):
    network, counted = Network(), CountingReward()
    with pytest.raises(ConfigError, match=message):
        itscale.sample(
            wrapped(network), reward=counted, method=WasteFreeSMC(moves=moves), steps=6, condition=1.0
        )
    assert network.rows == counted.samples == 0


def test_a_budget_that_is_too_small_says_what_would_do():
    small = itscale.Budget(nfe=26)
    with pytest.raises(BudgetError, match="at least 1 times 4 particles need nfe = 27 "):
        itscale.sample(gaussian(0, 1), reward=total, method=WasteFreeSMC(), steps=6, budget=small)
