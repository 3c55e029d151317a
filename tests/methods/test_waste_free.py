"""Waste-free SMC: all states of few chains are kept, and together they have the tilted law."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import SMC, WasteFreeSMC
from itscale.solvers import Interval, Restart
from tests.contracts.methods import CYCLES, check_claim
from tests.engine.setting import CountingReward, Network, wrapped
from tests.methods.mutants import Tampered
from tests.solvers.drive import gaussian


@dataclass(frozen=True, kw_only=True)
class Mutant(WasteFreeSMC):
    particles: int | None = 33
    intervals: tuple[Interval, ...] = CYCLES
    inner: str = "sde-heun"

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


@pytest.mark.parametrize("mutant", [EveryMoveAccepted, DrawnBlindly, WeightTakenTwice, ValueLeftBehind])
def test_a_fault_in_drawing_moving_or_keeping_breaks_the_claim(mutant):
    with pytest.raises(AssertionError):
        check_claim(mutant())


def total(latents):
    return latents.flatten(1).sum(1)


def test_it_pays_for_the_moves_of_the_few_and_keeps_all_their_states():
    network, reward = Network(), CountingReward()
    interval = Interval(kappa_min=0.5, kappa_max=2.0, points=3, repeats=3)
    method = WasteFreeSMC(particles=12, intervals=(interval,), ess_threshold=0.0)
    seen = []
    result = itscale.sample(
        wrapped(network), reward=reward, method=method, steps=6, condition=1.0, on_step=seen.append
    )
    assert result.spent.nfe == [12 * 6 + 3 * 3 * (2 + 1)]
    assert result.spent.reward_calls == [12 * 6 + 3 * 3]
    assert result.notes["moves tried"] == 3 * 3
    after = [len(step.particles.eve.unique()) for step in seen]
    assert after[:4] == [12] * 4
    assert after[4] <= 3  # kappa = 0.5 is level 4: three survive there, and all that follows stems from them
    assert len(result.samples[0].unique(dim=0)) == 12
    assert result.ancestors is not None
    assert result.lineage().shape == (7, 1, 12)


def test_several_intervals_may_keep_chains_of_different_lengths():
    intervals = (
        Interval(kappa_min=0.3, kappa_max=0.8, repeats=1),
        Interval(kappa_min=1.0, kappa_max=3.0, repeats=2),
    )
    assert WasteFreeSMC(intervals=intervals).multiple == 6
    result = itscale.sample(
        gaussian(0, 1), reward=total, method=WasteFreeSMC(intervals=intervals), steps=8, particles=12
    )
    assert result.particles == 12


def test_without_a_tilt_every_move_is_accepted_and_nothing_weighs():
    result = itscale.sample(gaussian(0, 1), reward=total, method=WasteFreeSMC(), tilt=0.0, steps=8)
    assert result.notes["moves accepted"] == result.notes["moves tried"] == 4 * 3
    assert (result.log_weights == 0).all()
    assert (result.log_evidence == 0).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"particles": 30}, r"particles must be a multiple of 4 \(1 \+ repeats of every interval\), got 30"),
        ({"particles": 0}, "particles must be a whole number"),
        ({"intervals": ()}, "one or more Interval"),
        ({"inner": "heun"}, "come down by the reverse SDE, and Heun solves the ODE: use inner='2m-sde'"),
        ({"inner": Restart()}, "inner must be a plain solver"),
        ({"ess_threshold": 2.0}, "ess_threshold"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        WasteFreeSMC(**setting)


def test_intervals_and_budgets_that_do_not_fit_are_refused_before_any_call():
    network, reward = Network(), CountingReward()
    outside = WasteFreeSMC(intervals=(Interval(kappa_min=0.01, kappa_max=1.0),))
    with pytest.raises(ConfigError, match="outside the grid"):
        itscale.sample(wrapped(network), reward=reward, method=outside, steps=6, condition=1.0)
    small = itscale.Budget(nfe=30)
    with pytest.raises(BudgetError, match="at least 1 times 4 particles need nfe = 39"):
        itscale.sample(wrapped(network), reward=reward, method=WasteFreeSMC(), steps=6, budget=small)
    assert network.rows == reward.samples == 0
    assert SMC().claim == WasteFreeSMC().claim
