"""Every method with every value: what is planned, counted and computed, bits, and interrupted runs."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

import itscale
import itscale.preparation
from itscale.budget import Budget
from itscale.errors import BudgetError, ConfigError
from itscale.methods import CTS, RBF, SMC, NestedSMC, TwistedSMC
from itscale.values import LookAhead, ManySample
from tests.contracts.methods import Pulled, same
from tests.engine.setting import METHODS, PROFILE, CountingReward, Network, smooth, total, wrapped
from tests.values.settings import VALUES

TENSORS = ("samples", "states", "rewards", "log_weights", "log_evidence", "ess")
DRAWING = ("rbf", "verifier-threshold", "svdd, rollover")
PAIRS = [(m, v) for m in METHODS for v in VALUES if not METHODS[m].needs.gradient]
BITS = [(m, v) for m in ("smc", "nested, sparse", "rbf", "gibbs", "restart, accepted") for v in VALUES]
EVENTS = {"smc": (1, 6, 6), "nested, sparse": (1, 6, 6)}  # the others in three coordinates


def run(network, method, value, groups=(0, 1), reward=total, **more):
    process = itscale.SDE() if method.needs.noise else itscale.ODE()
    conditions = [float(g) for g in groups]
    settings = {"condition": conditions, "groups": list(groups), "steps": 6, "seed": 4, "process": process}
    return itscale.sample(
        wrapped(network), reward=reward, method=method, value=VALUES.get(value, value), **settings, **more
    )


@pytest.mark.parametrize(("name", "value"), PAIRS)
def test_rows_forwarded_and_samples_scored_are_counted_and_were_planned(name, value):
    method, network, reward = METHODS[name], Network(), CountingReward()
    spent = run(
        network, method, value, reward=smooth(reward), guidance=2.0, pool=itscale.pools.Local(microbatch=10)
    ).spent
    assert network.rows == sum(spent.model_rows) == 2 * sum(spent.nfe)
    assert reward.samples == sum(spent.reward_calls)
    plan = itscale.preparation.prepare(
        wrapped(Network()),
        reward=total,
        method=method,
        value=VALUES[value],
        steps=6,
        process=itscale.SDE() if method.needs.noise else itscale.ODE(),
    ).plan
    if name in DRAWING or name.startswith("dts"):  # which decide on the way how many scores there are
        assert max(spent.nfe) <= plan.nfe
        assert max(spent.reward_calls) <= plan.reward_calls
    else:
        assert spent.nfe == [plan.nfe] * 2
        assert not method.needs.reward or spent.reward_calls == [plan.reward_calls] * 2


def test_a_costly_value_is_paid_for_by_each_early_score_and_no_late_one():
    spent = run(Network(), SMC(particles=5), LookAhead(steps=3)).spent
    assert spent.nfe == [5 * (6 + 5 * 2)] * 2
    assert spent.reward_calls == [5 * 6] * 2
    spent = run(Network(), SMC(particles=5), ManySample(samples=3, inner_steps=4)).spent
    assert spent.nfe == [5 * (6 + 5 * 3 * 3)] * 2
    assert spent.reward_calls == [5 * (5 * 3 + 1)] * 2


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("method", [SMC(), NestedSMC(children=3), RBF(particles=2)], ids=repr)
@pytest.mark.parametrize(("unit", "limit"), [("nfe", 200), ("model_rows", 200), ("reward_calls", 120)])
def test_budgets_are_obeyed_and_used(method, value, unit, limit):
    spent = run(Network(), method, value, budget=Budget(**{unit: limit})).spent
    assert max(getattr(spent, unit)) <= limit
    if not isinstance(method, RBF):
        n = itscale.preparation.prepare(
            wrapped(Network()),
            reward=total,
            method=method,
            value=VALUES[value],
            steps=6,
            budget=Budget(**{unit: limit}),
        ).plan.particles
        with pytest.raises(BudgetError, match=f"{n + 1} particles need {unit} = "):
            run(Network(), method, value, budget=Budget(**{unit: limit}), n=n + 1)


@pytest.mark.parametrize(("name", "value"), BITS)
def test_groups_give_equal_bits_together_and_alone(name, value):
    pool, event = itscale.pools.Local(microbatch=8, bitwise=True), EVENTS.get(name, (3,))

    def draw(groups):
        return itscale.sample(
            wrapped(Network(event), event),
            reward=smooth(total),
            method=METHODS[name],
            value=VALUES[value],
            steps=6,
            groups=groups,
            condition=[float(g) for g in groups],
            seed=4,
            pool=pool,
        )

    together, alone = draw([0, 3, 5]), draw([3])
    for field in TENSORS:
        whole = getattr(together, field).narrow(1 if field == "ess" else 0, 1, 1)
        assert same(getattr(alone, field), whole), field


@pytest.mark.parametrize(("name", "value"), BITS)
def test_interrupted_runs_go_on_to_the_same_bits(name, value, tmp_path):
    method, file = METHODS[name], tmp_path / "run.pt"
    whole = run(Network(), method, value)
    moves = 0

    def pull(step):
        nonlocal moves
        moves += 1
        if moves == 3:
            raise Pulled

    with pytest.raises(Pulled):
        run(Network(), method, value, checkpoint=file, on_step=pull)
    resumed = run(Network(), method, value, checkpoint=file)
    for field in TENSORS:
        assert same(getattr(resumed, field), getattr(whole, field)), field
    spent, expected = asdict(resumed.spent), asdict(whole.spent)
    for unit in expected.keys() - {"seconds", "peak_memory_bytes"}:
        assert spent[unit] == expected[unit], unit


def test_a_file_of_a_run_with_another_value_is_refused(tmp_path):
    file = tmp_path / "run.pt"

    def pull(step):
        raise Pulled

    with pytest.raises(Pulled):
        run(Network(), SMC(particles=4), LookAhead(steps=2), checkpoint=file, on_step=pull)
    with pytest.raises(ConfigError, match=r"is of another run: value was .*2.* and is .*3"):
        run(Network(), SMC(particles=4), LookAhead(steps=3), checkpoint=file)


@pytest.mark.parametrize("value", ["denoised", LookAhead(steps=1)], ids=repr)
def test_the_default_and_a_look_ahead_of_one_step_are_the_same_run(value):
    plain = itscale.sample(wrapped(Network()), reward=total, method=SMC(particles=6), steps=6, condition=1.0)
    other = itscale.sample(
        wrapped(Network()), reward=total, method=SMC(particles=6), steps=6, condition=1.0, value=value
    )
    assert torch.equal(plain.samples, other.samples)
    assert torch.equal(plain.log_weights, other.log_weights)


@pytest.mark.parametrize("method", [METHODS["tds"], METHODS["das"], CTS(drift="denoised", profile=PROFILE)])
def test_methods_that_follow_gradients_of_the_denoised_samples_reward_are_refused(method):
    network = Network()
    with pytest.raises(ConfigError, match="LookAhead is another value; use value='denoised'"):
        run(network, method, LookAhead(steps=2), reward=smooth(total))
    assert network.rows == 0


def test_cts_pushes_by_its_population_where_values_have_no_gradient():
    network = Network()
    result = run(network, CTS(particles=5, profile=PROFILE), LookAhead(steps=2), reward=smooth(total))
    assert result.spent.backward_rows == 0
    assert network.backward == 0


def test_pilots_use_the_value_of_the_run_and_cost_what_is_said():
    network = Network()
    result = run(network, CTS(particles=5), LookAhead(steps=3))
    assert result.pilot.nfe == [16 * (6 + 5 * 2)] * 2
    assert network.rows == sum(result.spent.model_rows) + sum(result.pilot.model_rows)


def test_particles_that_were_ended_early_are_scored_as_they_are_handed_out():
    result = run(Network(), SMC(particles=6), LookAhead(steps=3), on_step=lambda step: step.level < 3)
    assert result.truncated
    torch.testing.assert_close(result.rewards.float(), result.samples.sum(-1))


def test_numbers_of_particles_that_vary_and_cycles_at_the_last_look_are_planned():
    method = TwistedSMC(particles=6, schedule=(2.0, 1.0, 0.7, 1.3, 0.5, 1.0))
    spent = run(Network(), method, "look-ahead").spent
    sizes = method.sizes(6, 6)
    assert spent.nfe == [sum(sizes) + 2 * sum(sizes[:-1])] * 2
