"""Equal seeds give equal bits whatever is run together, and close numbers for any micro-batch."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.methods import SMC, NestedSMC
from itscale.noise import Address, Noise, Purpose
from tests.engine.setting import METHODS, Network, smooth, total, wrapped

EVENTS = [(3,), (1, 6, 6)]
TENSORS = ("samples", "states", "rewards", "log_weights", "log_evidence", "ess")
EQUAL = {"rtol": 0, "atol": 0, "equal_nan": True}


def run(event, method, groups, condition=None, pool=None, **more):
    return itscale.sample(
        wrapped(Network(event), event),
        reward=smooth(total),
        method=method,
        steps=6,
        groups=groups,
        condition=1.0 if condition is None else condition,
        seed=4,
        pool=pool or itscale.pools.Local(microbatch=8, bitwise=True),
        **more,
    )


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_groups_give_equal_bits_together_alone_and_in_any_order(name, event, guidance):
    together = run(event, METHODS[name], [0, 3, 5], [0.0, 1.0, 2.0], guidance=guidance)
    turned = run(event, METHODS[name], [5, 0, 3], [2.0, 0.0, 1.0], guidance=guidance)
    alone = run(event, METHODS[name], [3], [1.0], guidance=guidance)
    for field in TENSORS:
        axis = 1 if field == "ess" else 0
        whole, other, single = (getattr(result, field) for result in (together, turned, alone))
        if field == "ess" and name.startswith("dts"):  # the slowest group says how many steps a run takes
            whole, other, single = whole[-1:], other[-1:], single[-1:]
        torch.testing.assert_close(other, whole.index_select(axis, torch.tensor([2, 0, 1])), **EQUAL)
        torch.testing.assert_close(single, whole.narrow(axis, 1, 1), **EQUAL)


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("name", ["smc", "nested", "svdd"])
def test_a_second_run_gives_equal_bits(name, event):
    first, second = (run(event, METHODS[name], 2) for _ in range(2))
    for field in TENSORS:
        torch.testing.assert_close(getattr(first, field), getattr(second, field), **EQUAL)


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("solver", ["dpm++2m", "heun"])
def test_unguided_samples_hardly_depend_on_the_micro_batch(event, solver):
    runs = [
        itscale.sample(
            wrapped(Network(event), event), n=11, groups=2, steps=8, solver=solver, condition=1.0, pool=pool
        ).samples
        for pool in (itscale.pools.Local(microbatch=m) for m in (1, 2, 3, 7, 64))
    ]
    for other in runs[1:]:
        torch.testing.assert_close(other, runs[0], rtol=1e-5, atol=1e-5)


def test_seed_and_group_both_change_the_samples():
    samples = run((3,), METHODS["smc"], [0, 1]).samples
    assert not (samples[0] == samples[1]).any()
    other = itscale.sample(
        wrapped(Network()), reward=total, method=METHODS["smc"], steps=6, groups=[0, 1], condition=1.0, seed=5
    ).samples
    assert not (samples == other).any()


def test_one_child_is_plain_smc_bit_for_bit():
    smc = run((3,), SMC(particles=6), 2)
    nested = run((3,), NestedSMC(particles=6, children=1), 2)
    for field in TENSORS:
        assert torch.equal(getattr(smc, field), getattr(nested, field))


def test_initial_noise_replaces_the_draw_of_the_seed():
    drawn = run((3,), METHODS["smc"], 2)
    group, slot = torch.arange(2).repeat_interleave(6), torch.arange(6).repeat(2)
    zero = torch.zeros(12, dtype=torch.int64)
    unit = Noise(4).normal(Purpose.INITIAL, Address(group, zero, slot, zero), (3,), torch.float32)
    given = run((3,), METHODS["smc"], 2, initial=unit.reshape(2, 6, 3))
    assert torch.equal(given.samples, drawn.samples)
    other = run((3,), METHODS["smc"], 2, initial=-unit.reshape(2, 6, 3))
    assert not (other.samples == drawn.samples).any()


def test_the_callback_sees_every_move_and_changes_nothing():
    seen = []
    watched = run((3,), METHODS["nested"], 2, on_step=seen.append)
    assert [s.level for s in seen] == [1, 2, 3, 4, 5, 6]
    assert all(s.steps == 6 and s.ess.shape == (2,) for s in seen)
    assert [s.t for s in seen] == pytest.approx(watched.times[1:].tolist())
    assert seen[-1].nfe == max(watched.spent.nfe)
    assert torch.equal(watched.samples, run((3,), METHODS["nested"], 2).samples)
