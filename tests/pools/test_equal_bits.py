"""A sharded run is the local run, bit by bit: every method, every scheme, any number of shards."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.methods import RBF, SMC
from itscale.particles import SCHEMES
from itscale.pools import Local
from tests.engine.setting import METHODS, Network, smooth, total, wrapped

pytestmark = pytest.mark.ray
TENSORS = ("samples", "states", "rewards", "log_weights", "log_evidence", "ess", "ancestors")
SPENT = ("nfe", "model_rows", "reward_calls", "decodes", "backward_rows", "cached_rewards")


def run(method, pool, event=(3,), **more):
    return itscale.sample(
        wrapped(Network(event), event),
        reward=smooth(total),
        held_out=lambda latents: latents.flatten(1).amax(1),
        method=method,
        seed=4,
        pool=pool,
        **{"groups": 2, "condition": [0.0, 1.0], "steps": 6, "guidance": 2.0, **more},
    )


def assert_same(mine, theirs):
    for field in (*TENSORS, "held_out"):
        a, b = getattr(mine, field), getattr(theirs, field)
        if b is None:
            assert a is None, field
            continue
        assert torch.equal(a.nan_to_num(7e77), b.nan_to_num(7e77)), field
    for unit in SPENT:
        assert getattr(mine.spent, unit) == getattr(theirs.spent, unit), unit
    assert [row["level"] for row in mine.trace] == [row["level"] for row in theirs.trace]


def local(method, **more):
    return run(method, Local(microbatch=8, bitwise=True), **more)


def interrupt(method, pool, file):
    """Leave a checkpoint of the first half of a run."""

    def pull(step):
        if step.level == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(method, pool, checkpoint=file, on_step=pull)


@pytest.mark.shards(1)  # and two before, which tests of two have left
def test_a_checkpoint_goes_on_with_another_number_of_shards(pool, tmp_path):
    for name in ("smc", "rbf"):
        interrupt(METHODS[name], pool(2), tmp_path / name)
    for name in ("smc", "rbf"):
        assert_same(run(METHODS[name], pool(1), checkpoint=tmp_path / name), local(METHODS[name]))


@pytest.mark.shards(4)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_equal_bits_on_four_shards(name, pool):
    assert_same(run(METHODS[name], pool(4)), local(METHODS[name]))


@pytest.mark.shards(4)
@pytest.mark.parametrize("name", ["smc", "nested", "gibbs", "rbf", "cts, population", "reno", "dts"])
def test_images_give_equal_bits_on_four_shards(name, pool):
    event = (1, 6, 6)
    assert_same(run(METHODS[name], pool(4), event), local(METHODS[name], event=event))


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_every_scheme_gives_equal_bits_on_any_number_of_shards(scheme, shards, pool):
    method = SMC(particles=7, ess_threshold=1.0, scheme=scheme)
    three = {"groups": 3, "condition": [0.0, 1.0, 2.0]}  # shards end in the midst of a group
    mine = run(method, pool(shards), **three)
    assert (mine.notes["pool"]["rows_moved"] > 0) == (shards > 1)
    assert_same(mine, local(method, **three))


@pytest.mark.shards(4)
@pytest.mark.parametrize("solver", ["2m-sde", "dpm++3m-sde", "euler-maruyama"])
def test_rows_that_remember_take_their_memory_along(solver, pool):
    method = SMC(particles=9, ess_threshold=1.0)
    assert_same(run(method, pool(4), solver=solver), local(method, solver=solver))


@pytest.mark.shards(4)
def test_compositions_give_equal_bits(pool):
    model = wrapped(Network())

    def composed(where):
        a, b = model.given(0.0), model.given(1.0)
        target = a**0.7 * b**0.6
        return itscale.sample(target, method="fkc", particles=9, steps=6, seed=1, pool=where)

    mine, theirs = composed(pool(4)), composed(Local(microbatch=8, bitwise=True))
    assert torch.equal(mine.samples, theirs.samples)
    assert torch.equal(mine.log_evidence, theirs.log_evidence)


@pytest.mark.shards(4)
def test_more_shards_than_rows_and_one_shard(pool):
    method = SMC(particles=1)
    assert_same(run(method, pool(4)), local(method))


@pytest.mark.parametrize("name", ["smc", "nested", "psi", "tds"])
@pytest.mark.parametrize("shards", [1, 2])
def test_fewer_shards_give_equal_bits(name, shards, pool):
    assert_same(run(METHODS[name], pool(shards)), local(METHODS[name]))


@pytest.mark.shards(2)
def test_states_are_at_hand_in_a_callback(pool):
    seen = []

    def look(step):
        seen.append(step.particles.rows.x)

    mine = run(METHODS["smc"], pool(2), on_step=look)
    theirs = []
    local(METHODS["smc"], on_step=lambda step: theirs.append(step.particles.rows.x))
    assert all(torch.equal(a, b) for a, b in zip(seen, theirs, strict=True))
    assert mine.notes["pool"]["shards"] == 2


@pytest.mark.shards(2)
@pytest.mark.parametrize("name", ["smc", "rbf"])
def test_a_checkpoint_goes_on_in_another_pool(name, pool, tmp_path):
    here = Local(microbatch=8, bitwise=True)
    for first, second in ((pool(2), here), (here, pool(2))):
        interrupt(METHODS[name], first, tmp_path / "run.pt")
        assert_same(run(METHODS[name], second, checkpoint=tmp_path / "run.pt"), local(METHODS[name]))


@pytest.mark.shards(2)
def test_without_bitwise_samples_are_close_unguided(pool):
    mine = run("unguided", pool(2, bitwise=False), n=9)
    theirs = run("unguided", Local(microbatch=8), n=9)
    torch.testing.assert_close(mine.samples, theirs.samples, rtol=1e-5, atol=1e-5)


@pytest.mark.shards(2)
def test_budgets_are_obeyed_across_shards(pool):
    budget = itscale.Budget(nfe=53)
    method = RBF(particles=3)
    assert_same(run(method, pool(2), budget=budget), local(method, budget=budget))


@pytest.mark.shards(4)
def test_every_step_says_what_it_moved(pool):
    method = SMC(particles=9, ess_threshold=1.0)
    result = run(method, pool(4, prometheus=True))
    whole, steps = result.notes["pool"], [row["pool"] for row in result.trace]
    assert len(steps) == 7
    for name in ("rows_moved", "rows_taken", "recoveries"):
        assert sum(step[name] for step in steps) == whole[name]
    assert whole["rows_moved"] > 0
    assert_same(result, local(method))
