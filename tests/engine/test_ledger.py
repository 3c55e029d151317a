"""What the ledger says was spent is what was really computed, and a budget is never exceeded."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import itscale
import itscale.preparation
from itscale.budget import Budget, Ledger
from itscale.errors import BudgetError, ConfigError
from itscale.methods import SMC, SVDD, BestOfN, ImportanceSampling, NestedSMC, Unguided
from tests.engine.setting import METHODS, CountingReward, Network, smooth, wrapped


def solver_for(method, solver):
    """Stochastic solvers for methods that need noise, their deterministic brothers for the others."""
    if method.needs.noise:
        return {"solver": solver, "process": itscale.SDE()}
    return {"solver": {"2m-sde": "dpm++2m", "sde-heun": "heun"}[solver], "process": itscale.ODE()}


# every method with solvers of one and of two evaluations, where it can use them
PAIRS = [
    (name, solver)
    for name in METHODS
    for solver in ("2m-sde", "sde-heun")
    if solver != "sde-heun" or name not in ("rbf", "verifier-threshold", "svdd, rollover")
]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize(("name", "solver"), PAIRS)
def test_ledger_counts_rows_forwarded_and_samples_scored(name, guidance, solver):
    network, reward, judge = Network(), CountingReward(), CountingReward()
    result = itscale.sample(
        wrapped(network),
        reward=smooth(reward),
        held_out=judge,
        method=METHODS[name],
        steps=6,
        condition=[1.0, 0.5],
        guidance=guidance,
        groups=2,
        pool=itscale.pools.Local(microbatch=5),
        **solver_for(METHODS[name], solver),
    )
    spent = result.spent
    assert network.rows == sum(spent.model_rows)
    assert sum(spent.model_rows) == sum(spent.nfe) * (1 if guidance == 1 else 2)
    assert reward.samples == sum(spent.reward_calls)
    assert judge.samples == spent.held_out_calls == result.log_weights.numel()
    assert spent.padding_rows == 0
    assert network.backward == spent.backward_rows
    assert len(set(spent.nfe)) == 1  # groups of equal size cost the same


@pytest.mark.parametrize(("name", "solver"), PAIRS)
def test_a_plan_costs_what_the_run_spends(name, solver):
    method, reward = METHODS[name], CountingReward()
    setting = {"reward": smooth(reward), "method": method, "steps": 6, **solver_for(method, solver)}
    plan = itscale.preparation.prepare(wrapped(Network()), **setting).plan
    spent = itscale.sample(wrapped(Network()), groups=2, **setting).spent
    assert spent.nfe == [plan.nfe] * 2
    assert spent.backward_rows == 2 * plan.gradients
    if name.startswith("dts"):  # roll-outs that branch off late are short, so there are more of them
        assert all(plan.particles <= calls <= plan.reward_calls for calls in spent.reward_calls)
    elif method.needs.reward:
        assert spent.reward_calls == [plan.reward_calls] * 2


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_padding_is_counted_apart(guidance):
    network = Network()
    pool = itscale.pools.Local(microbatch=8, bitwise=True)
    spent = itscale.sample(wrapped(network), n=3, steps=4, condition=1.0, guidance=guidance, pool=pool).spent
    assert network.rows == sum(spent.model_rows) + spent.padding_rows
    assert network.rows == 8 * spent.network_calls


def make(kind: str, children: int):
    return {
        "unguided": Unguided(),
        "best-of-n": BestOfN(),
        "importance": ImportanceSampling(),
        "smc": SMC(score_every=children),
        "nested-smc": NestedSMC(children=children),
        "svdd": SVDD(children=children),
    }[kind]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["unguided", "best-of-n", "importance", "smc", "nested-smc", "svdd"]),
    unit=st.sampled_from(["nfe", "model_rows", "reward_calls"]),
    limit=st.integers(1, 300),
    steps=st.integers(2, 6),
    children=st.integers(1, 4),
    guidance=st.sampled_from([1.0, 2.0]),
    solver=st.sampled_from(["2m-sde", "sde-heun"]),
)
def test_no_budget_is_exceeded_and_refusals_name_the_least_that_would_do(
    kind, unit, limit, steps, children, guidance, solver
):
    method, network = make(kind, children), Network()

    def run(amount: int):
        return itscale.sample(
            wrapped(network),
            reward=CountingReward(),
            method=method,
            steps=steps,
            condition=1.0,
            guidance=guidance,
            budget=Budget(**{unit: amount}),
            **solver_for(method, solver),
        )

    try:
        spent = getattr(run(limit).spent, unit)
    except BudgetError as error:
        assert network.rows == 0
        found = re.search(rf"{unit} = (\d+)", str(error))
        assert found is not None
        least = int(found[1])
        assert least > limit
        assert max(getattr(run(least).spent, unit)) <= least
        return
    assert max(spent) <= limit


def test_a_given_size_that_the_budget_cannot_pay_is_refused_with_what_it_needs():
    with pytest.raises(BudgetError, match=r"10 particles need nfe = 50 and budget.nfe is 49"):
        itscale.sample(
            wrapped(Network()),
            reward=CountingReward(),
            method=SMC(particles=10),
            steps=5,
            budget=Budget(nfe=49),
        )


def test_a_time_budget_ends_the_run_early_and_says_so():
    network = Network()
    result = itscale.sample(
        wrapped(network),
        reward=CountingReward(),
        method=SMC(particles=6),
        steps=50,
        budget=Budget(seconds=1e-9),
    )
    assert result.truncated
    assert network.rows == 6  # the look at level 0 is all that the denoised samples need
    assert result.claim == {"target": None, "evidence": None}
    assert result.log_evidence.isnan().all()
    assert result.rewards.isfinite().all()
    torch.testing.assert_close(result.rewards.float(), result.samples.sum(-1))
    assert any("ended early" in w for w in result.warnings)


def test_budgets_and_ledgers_check_their_numbers():
    for bad in ({}, {"nfe": 0}, {"nfe": -3}, {"nfe": 2.5}, {"reward_calls": True}, {"seconds": 0.0}):
        with pytest.raises(ConfigError, match="budget"):
            Budget(**bad)
    ledger = Ledger(2, Budget(nfe=10))
    ledger.charge(nfe=torch.tensor([3, 7]), padding_rows=2)
    assert ledger.spent().nfe == [3, 7]
    assert ledger.spent().total("nfe") == 10
    assert not ledger.out_of_time
