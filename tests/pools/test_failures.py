"""Shards die, hang, run late or raise: the result is that of an undisturbed run, or the error says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import itscale
from itscale.errors import PoolError, RewardError
from itscale.methods import SMC
from itscale.pools import Local, open_ray
from tests.engine.setting import METHODS, Network, make_engine, smooth, total, wrapped
from tests.pools.test_equal_bits import assert_same, local, run

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
METHOD = SMC(particles=9, ess_threshold=1.0)
LONG: dict = {"steps": 12, "groups": 3, "condition": [0.0, 1.0, 2.0]}
"""The second of three groups lies in both of two shards, so that rows move from one to the other."""


def disturbed(pool, at, how):
    """A run in which something happens to shard 1 after a move."""

    def on_step(step):
        if step.level == at:
            how(step.particles.rows.pool)

    result = run(METHOD, pool, on_step=on_step, **LONG)
    assert result.notes["pool"]["bytes_moved"] > 0
    return result


@pytest.fixture(scope="module")
def undisturbed():
    return local(METHOD, **LONG)


@pytest.mark.parametrize("every", [4, 1000], ids=["snapshots", "from the start"])
@pytest.mark.parametrize("at", [1, 7])
def test_a_killed_shard_costs_time_alone(at, every, pool, undisturbed):
    def kill(open_pool):
        os.kill(open_pool.crew.pids[1], signal.SIGKILL)

    result = disturbed(pool(snapshot_every=every), at, kill)
    assert_same(result, undisturbed)
    assert result.notes["pool"]["recoveries"] >= 1
    assert any("shards were lost" in warning for warning in result.warnings)
    if every == 4:  # a step is four calls at most, and as many are between two snapshots
        assert result.notes["pool"]["acts_repeated"] <= 2 * every


def test_a_shard_that_hangs_is_given_up(pool, undisturbed):
    def stop(open_pool):
        os.kill(open_pool.crew.pids[1], signal.SIGSTOP)

    started = time.monotonic()
    result = disturbed(pool(deadline=3.0), 5, stop)
    assert_same(result, undisturbed)
    assert result.notes["pool"]["recoveries"] >= 1
    assert "did not answer within" in result.notes["pool"]["losses"][0]
    assert time.monotonic() - started < 120


def test_both_shards_at_once(pool, undisturbed):
    def kill(open_pool):
        for pid in open_pool.crew.pids:
            os.kill(pid, signal.SIGKILL)

    assert_same(disturbed(pool(), 6, kill), undisturbed)


def fatal(latents):
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_kills_shards_again_and_again_is_an_error(pool):
    with pytest.raises(PoolError, match="3 times in a row at the same call, 'start\\+look\\+score'"):
        itscale.sample(
            wrapped(Network()), reward=fatal, n=4, method="smc", steps=3, condition=0.0, pool=pool()
        )


def broken(latents):
    raise ZeroDivisionError("no ink left")


def test_what_a_reward_raises_is_raised_here(pool):
    settings = {"method": "smc", "steps": 3, "condition": 0.0}
    with pytest.raises(RewardError, match="no ink left") as there:
        itscale.sample(wrapped(Network()), reward=broken, n=8, pool=pool(), **settings)
    with pytest.raises(RewardError) as here:
        itscale.sample(wrapped(Network()), reward=broken, n=8, pool=Local(), **settings)
    assert type(there.value) is type(here.value)
    assert_same(run(METHODS["smc"], pool()), local(METHODS["smc"]))  # and the shards go on


def states(engine, p):
    return engine.pool.home(p.rows).x


def test_calls_out_of_turn_are_refused_and_change_nothing(engine, out_of_turn):
    from ray.exceptions import RayTaskError

    from itscale.pools import wire
    from itscale.pools.shard import StaleCall

    p, before, stamp = out_of_turn
    crew, log = engine.pool.crew, engine.pool._log
    commands = log.acts[-1].answering[0].commands
    with pytest.raises(StaleCall, match="nothing was changed"):
        crew.ray.get(crew.shards[0].act.remote(wire.dumps((*stamp, commands, ()))))
    with pytest.raises(RayTaskError):
        crew.ray.get(crew.shards[0].export.remote(*stamp, p.rows.name, np.arange(1)))
    assert torch.equal(states(engine, p), before)
    moved = engine.look(engine.propose(p))  # and the next call in turn is taken
    assert len(moved.rows) == len(p.rows)


def test_a_late_build_of_an_earlier_epoch_is_refused(engine):
    from itscale.pools.shard import StaleCall

    crew = engine.pool.crew
    data, keys, refs = engine.pool._log.factory
    with pytest.raises(StaleCall):
        crew.ray.get(crew.shards[0].build.remote(crew.epoch, data, {"device": None}, None, keys, *refs))


def test_exported_rows_are_copied_before_they_can_change(engine):
    """Two populations swap shards crosswise in one act: every row arrives as it was."""
    p = engine.look(engine.start(6))
    before = states(engine, p)
    turned = p.rows.take(torch.arange(11, -1, -1))
    assert torch.equal(engine.pool.home(turned).x, before.flip(0))


def test_rows_that_nobody_has_are_dropped(engine):
    p = engine.start(6)
    for _ in range(4):
        p = engine.look(engine.propose(engine.look(p)))
    engine.pool.home(p.rows)
    held = engine.pool.crew.ray.get([shard.held.remote() for shard in engine.pool.crew.shards])
    assert max(held) <= 4


def test_no_block_passes_the_driver(engine):
    """170 moves of 16 rows of 80 KB: the driver's memory stays as it is."""
    import resource

    model = wrapped(Network((20000,)), (20000,))
    big = make_engine(model, smooth(total), pool=engine.pool.pool, groups=1)
    p = big.start(16)
    rows = p.rows.take(torch.arange(15, -1, -1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(170):
        rows = rows.take(torch.arange(16).roll(8 + i % 2))
        rows = big.pool._arrange(rows, np.arange(16), flipped(rows.layout))
    big.pool.counters()
    assert big.pool.metrics.bytes_moved > 200 * 2**20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20e3  # KB
    big.pool.close()


def flipped(layout):
    from itscale.pools.spreading import Layout

    return Layout(1 - layout.owner, 2)


DRIVER = """
import sys, os, signal
import torch
torch.set_num_threads(1)
from pathlib import Path
from itscale.pools import Ray
from tests.pools.test_equal_bits import run
from tests.pools.test_failures import LONG, METHOD
from tests.pools.conftest import DEFAULTS

def on_step(step):
    print(step.level, flush=True)
    if step.level == 7:
        print(step.particles.rows.pool.crew.pids, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

file = Path(sys.argv[1])
run(METHOD, Ray(shards=2, **DEFAULTS), checkpoint=file, checkpoint_every=0.0, on_step=on_step, **LONG)
"""


def test_a_killed_driver_leaves_no_process_and_its_run_goes_on(pool, undisturbed, tmp_path):
    file = tmp_path / "run.pt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    while open_ray._idle:  # two Rays at once take room enough without their shards
        open_ray._idle.pop()[1].dismiss()
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(file)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=240,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    pids = done.stdout.splitlines()[-1].strip("[]").split(", ")
    assert file.exists()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    seen = []
    resumed = run(METHOD, pool(2), checkpoint=file, on_step=lambda step: seen.append(step.level), **LONG)
    assert_same(resumed, undisturbed)
    assert seen[0] == 8  # no step is repeated: the file was written after every one
