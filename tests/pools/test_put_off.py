"""Moves and looks wait for the first question that needs an answer, and go along with it."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.errors import PoolError
from itscale.methods import SMC
from itscale.pools import Local
from itscale.process import ODE
from tests.engine.setting import Network, make_engine, smooth, total, wrapped
from tests.pools.test_equal_bits import assert_same, local, run

pytestmark = [pytest.mark.ray, pytest.mark.shards(2)]


def test_a_step_is_one_message_to_every_shard(pool):
    acts: list[int] = []
    method = SMC(particles=8, ess_threshold=0.0)
    run(method, pool(2, snapshot_every=1000), on_step=lambda step: acts.append(step.pool["acts"]))
    assert acts == [1] * 6


def test_snapshots_count_calls_and_come_between_steps(pool):
    """Six calls are two steps, of a move, a look and a score; a snapshot counts as a call itself."""
    acts: list[int] = []
    method = SMC(particles=8, ess_threshold=0.0)
    run(method, pool(2, snapshot_every=6), on_step=lambda step: acts.append(step.pool["acts"]))
    assert acts == [1, 2, 1, 2, 1, 2]


def test_steps_without_a_question_end_when_they_are_done(pool):
    """A callback after a step finds its rows made: no driver runs ahead of its shards."""
    seen: list[int] = []

    def on_step(step):
        assert step.particles.rows._known is not None
        seen.append(step.pool["acts"])

    method = SMC(particles=8, ess_threshold=0.0, score_every=3)
    assert_same(run(method, pool(2, snapshot_every=1000), on_step=on_step), local(method))
    assert seen == [1] * 6


@pytest.mark.parametrize("solver", ["adaptive-dpm", "heun"])
def test_looks_inside_moves_are_counted_as_in_one_process(solver, pool):
    given = {"solver": solver, "process": ODE()}
    assert_same(run("best-of-n", pool(2), n=5, **given), run("best-of-n", Local(8, True), n=5, **given))


class Failing(Network):
    """Fails at late times."""

    def forward(self, x, t, condition=None):
        if float(t.max()) > 0.5:
            raise ZeroDivisionError("no ink left")
        return super().forward(x, t, condition)


def test_what_a_network_raises_in_a_call_that_was_put_off_is_raised_in_its_step(pool):
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError, match="no ink left"):
        itscale.sample(
            wrapped(Failing()),
            reward=smooth(total),
            method=SMC(particles=8, score_every=10),
            steps=5,
            condition=0.0,
            pool=pool(2),
            on_step=lambda step: seen.append(step.level),
        )
    assert seen == [1, 2]  # levels are 0, 0.2, 0.4 and then 0.6, where it fails


def test_rows_that_were_never_made_say_so(pool):
    engine = make_engine(wrapped(Failing()), smooth(total), pool=pool(2))
    try:
        p = engine.look(engine.start(6))
        for _ in range(2):
            p = engine.look(engine.propose(p))
        assert torch.isfinite(p.rows.x).all()
        lost = engine.look(engine.propose(p))
        with pytest.raises(ZeroDivisionError):
            engine.score(lost)
        with pytest.raises(PoolError, match="never made"):
            lost.rows.take(torch.arange(11, -1, -1))
        assert torch.isfinite(p.rows.x).all()  # and those before are there
    finally:
        engine.pool.close()


def test_what_is_wanted_of_other_shards_comes_after_what_was_put_off(pool):
    engine = make_engine(wrapped(Network()), smooth(total), pool=pool(2))
    here = make_engine(wrapped(Network()), smooth(total), pool=Local(8, True))
    try:
        turned = torch.arange(11, -1, -1)
        found = [e.pool.home(e.propose(e.look(e.start(6))).rows.take(turned)).x for e in (engine, here)]
        assert torch.equal(*found)
    finally:
        engine.pool.close()


def test_a_verb_that_says_more_than_was_expected_is_a_fault():
    engine = make_engine(wrapped(Network()), smooth(total), pool=Local())
    p = engine.look(engine.start(4))
    with pytest.raises(AssertionError, match="says more"):
        engine.pool.later("score", p.rows, 0, engine._place(p), keep_samples=False)
