"""Every method against the battery, and faulty methods that the battery must refuse."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from itscale.methods import METHODS, SMC, ImportanceSampling, NestedSMC
from itscale.methods.base import Claim
from itscale.particles import get_scheme
from tests.contracts.methods import (
    CHECKS,
    CYCLES,
    METHOD_CASES,
    check_budget_is_obeyed,
    check_claim,
    check_resumes_to_the_same_bits,
    check_saved_result_comes_back,
)
from tests.methods.mutants import (
    AcceptedTheWrongWay,
    CyclesUnweighted,
    EveryCycleAccepted,
    RunningMaxAtTheEnd,
    SiblingsForgotten,
    ValueLeftBehind,
    WeightNotTakenOver,
    WeightsDropped,
    WrongSign,
)


def label(method: Any) -> str:
    """The settings that differ from the defaults."""
    changed = [
        f"{f.name}={getattr(method, f.name)!r}"[:40]
        for f in fields(method)
        if getattr(method, f.name) != f.default and f.name != "profile"
    ]
    return f"{type(method).__name__}({', '.join(changed)})"


@pytest.mark.parametrize("method", METHOD_CASES, ids=label)
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_contract(check, method):
    check(method)


@pytest.mark.parametrize("method", METHOD_CASES, ids=label)
def test_saved_results_come_back_bit_for_bit(method, tmp_path):
    check_saved_result_comes_back(method, tmp_path)


@pytest.mark.parametrize("method", METHOD_CASES, ids=label)
def test_interrupted_runs_go_on_to_the_same_bits(method, tmp_path):
    check_resumes_to_the_same_bits(method, tmp_path)


@pytest.mark.parametrize("method", [SMC, NestedSMC])
def test_biased_resampling_takes_the_claim_away(method):
    scheme = replace(get_scheme("systematic"), name="top", biased=True)
    assert str(method().claim) == "p(x) exp(tilt r(x))"
    assert method(scheme=scheme).claim == Claim(None)


def test_every_method_of_the_table_is_in_the_battery():
    assert {type(m) for m in METHOD_CASES} == set(METHODS.values())


@dataclass(frozen=True, kw_only=True)
class HalfTheTilt(ImportanceSampling):
    def step(self, engine, state):
        done = super().step(engine, state)
        p = done.particles
        return replace(done, particles=replace(p, log_weights=0.5 * p.log_weights)) if done.is_done else done


@dataclass(frozen=True, kw_only=True)
class PlansTooLittle(ImportanceSampling):
    """Forgets the first look of every trajectory."""

    def plan(self, cost, budget):
        return super().plan(replace(cost, steps=cost.steps - 1), budget)


@pytest.mark.parametrize(
    "method",
    [
        HalfTheTilt(particles=32),
        WeightsDropped(particles=32),
        WrongSign(particles=32),
        RunningMaxAtTheEnd(particles=32, score_every=3),
        ValueLeftBehind(particles=32),
        SiblingsForgotten(particles=8, children=4),
        EveryCycleAccepted(particles=32, intervals=CYCLES, inner="sde-heun"),
        AcceptedTheWrongWay(particles=32, intervals=CYCLES, inner="sde-heun"),
        WeightNotTakenOver(particles=32, intervals=CYCLES, inner="sde-heun"),
        CyclesUnweighted(particles=32, intervals=CYCLES, inner="ddim", rule="weight"),
    ],
    ids=lambda m: type(m).__name__,
)
def test_battery_refuses_a_method_that_does_not_keep_its_claim(method):
    with pytest.raises(AssertionError):
        check_claim(method)


def test_battery_refuses_a_method_that_spends_more_than_its_budget():
    with pytest.raises(AssertionError):
        check_budget_is_obeyed(PlansTooLittle())
