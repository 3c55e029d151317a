"""How a Ray of one's own is started, what a cluster that cannot be used says, and within what time."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import itscale
from itscale.errors import ConfigError, PoolError
from itscale.pools import Ray, session
from tests.engine.setting import Network, total, wrapped

ROOT = Path(__file__).resolve().parents[2]


def small(pool):
    return itscale.sample(
        wrapped(Network()), reward=total, n=4, method="smc", steps=3, condition=0.0, pool=pool
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shards": 0}, r"pool.shards must be a whole number >= 1, got 0"),
        ({"shards": 2.5}, r"pool.shards .* got 2.5"),
        ({"gpus": -1}, r"pool.gpus must be a number >= 0, got -1"),
        ({"deadline": 0}, r"pool.deadline must be seconds > 0, got 0"),
        ({"object_store": 1000}, r"pool.object_store is 1000 bytes.*at least 80 MiB"),
        ({"resources": {"reward": 0}}, r"pool.resources\['reward'\] must be a number > 0"),
        ({"max_recoveries": -1}, r"pool.max_recoveries must be >= 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, message):
    with pytest.raises(ConfigError, match=message):
        Ray(**settings)


def test_an_address_that_is_none_and_one_where_nobody_answers():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(ConfigError, match=rf"nobody answers at '127.0.0.1:{port}'.*--pool ray"):
            session.check_answer(f"127.0.0.1:{port}")
        assert time.monotonic() - started < 2 * session.ANSWER_SECONDS
    with pytest.raises(ConfigError, match="it should be 'local', 'auto' or HOST:PORT"):
        session.check_answer("rya")


def in_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, where Ray has not been touched."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=240,
        check=False,
    )


WITHOUT_RAY = """
import sys
sys.modules["ray"] = None
import itscale
from itscale.errors import MissingExtra
result = itscale.sample(itscale.models.GaussianMixture([1.0], [[0.0]], [1.0]), n=4, steps=3)
model = itscale.models.GaussianMixture([1.0], [[0.0]], [1.0])
try:
    itscale.sample(model, n=4, steps=3, pool=itscale.pools.Ray())
except MissingExtra as error:
    print(error)
"""


def test_without_ray_everything_else_works_and_the_error_names_the_extra():
    done = in_process(WITHOUT_RAY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pip install 'itscale[cluster]'" in done.stdout


def test_importing_and_describing_pools_does_not_load_ray():
    done = in_process("import sys, itscale.pools; itscale.pools.Ray(); print('ray' in sys.modules)")
    assert done.stdout.strip() == "False"


@pytest.mark.ray
def test_more_gpus_than_there_are_is_an_error_at_once(pool):
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"pool.shards=2 need 2 GPU, and this machine has 0"):
        small(pool(2, gpus=1.0))
    assert time.monotonic() - started < 60


@pytest.mark.ray
def test_a_place_that_cannot_be_had_times_out_and_says_what_is_free(pool, monkeypatch):
    small(pool())
    monkeypatch.setattr("itscale.pools.crew.is_own", lambda: False)  # a cluster, which might grow
    with pytest.raises(PoolError, match=r"no room for 2 shards of 64 CPU .*; free are .*: \d+ of \d+ CPU"):
        small(pool(2, cpus=64, start_timeout=2.0))
    small(pool())


@pytest.mark.ray
def test_other_versions_in_a_shard_are_named(pool, monkeypatch):
    from itscale.pools.shard import versions

    small(pool())
    monkeypatch.setattr("itscale.pools.crew.versions", lambda: {**versions(), "torch": "2.4.0"})
    with pytest.raises(ConfigError, match=r"has torch .* there and 2.4.0 here; install the same everywhere"):
        small(pool(3))


@pytest.mark.ray
def test_own_ray_wants_a_token_that_only_this_user_can_read(pool):
    small(pool())
    own = session._own
    assert own is not None
    token = own.folder / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700
    import ray

    address = ray.get_runtime_context().gcs_address
    client = f"import ray; ray.init(address={address!r}, log_to_driver=False); print('joined')"
    bare = {"RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "", "HOME": str(own.folder / "nobody")}
    bare["RAY_NUM_REDIS_GET_RETRIES"] = "2"  # of twenty, a second each
    refused = in_process(client, RAY_AUTH_MODE="disabled", **bare)
    assert "joined" not in refused.stdout
    assert re.search("Auth", refused.stderr)
    wrong = in_process(client, RAY_AUTH_MODE="token", **{**bare, "RAY_AUTH_TOKEN": "0" * 64})
    assert "joined" not in wrong.stdout


@pytest.mark.ray
def test_own_ray_has_no_dashboard_and_a_bounded_store(pool):
    small(pool())
    import ray

    assert not ray._private.worker.global_worker.node.webui_url
    stores = [node["Resources"].get("object_store_memory", 0) for node in ray.nodes()]
    assert sum(stores) <= 200 * 2**20  # whichever test has started it


@pytest.mark.ray
def test_shards_stay_from_run_to_run(pool):
    def pids(where):
        found = []
        itscale.sample(
            wrapped(Network()),
            reward=total,
            n=4,
            method="smc",
            steps=2,
            condition=0.0,
            pool=where,
            on_step=lambda step: found.extend(step.particles.rows.pool.crew.pids),
        )
        return set(found)

    assert pids(pool(2)) == pids(pool(2))


@pytest.mark.ray
def test_blocks_larger_than_the_store_complete_with_a_warning(own_ray):
    """240 MB change places at once, through a store of 80 MiB, or 200 if another test has started Ray."""
    from tests.engine.setting import make_engine
    from tests.pools.test_failures import flipped

    engine = make_engine(
        wrapped(Network((1_500_000,)), (1_500_000,)),
        total,
        pool=Ray(shards=2, cpus=0, threads=1, object_store=80 * 2**20, microbatch=1),
        groups=1,
    )
    p = engine.start(40)
    moved = engine.pool._arrange(p.rows, np.arange(40), flipped(p.rows.layout))
    ends = torch.tensor([0, 39])
    assert torch.equal(engine.pool.home(moved.take(ends)).x, engine.pool.home(p.rows.take(ends)).x)
    facts, warnings = engine.pool.report()
    assert facts["pool"]["bytes_moved"] >= 240e6
    assert any("Ray's shared memory has" in warning for warning in warnings)
    engine.pool.close()


@pytest.mark.ray
def test_shards_of_a_ray_that_ended_are_replaced():
    """Shards stay warm between runs; those of a session before are none."""
    pool = Ray(shards=1)
    try:
        first = small(pool)
        session.disconnect()
        second = small(pool)
    finally:
        session.disconnect()
    assert (first.samples == second.samples).all()


GONE = """
import os, signal, sys
import itscale
from itscale.errors import PoolError
from itscale.pools import Ray, session
from tests.engine.setting import Network, total, wrapped
from tests.runs.test_workers import children

session.OWN_HEAD_SECONDS = session.LOOK_SECONDS = 1.0

def kill(step):
    for pid in children(os.getpid()):
        if "gcs_server" in open(f"/proc/{pid}/cmdline").read():
            os.kill(pid, signal.SIGKILL)

def slow(latents):
    import time
    time.sleep(5)
    return latents[:, 0]

try:
    itscale.sample(wrapped(Network()), reward=slow, n=4, method="smc", steps=9, condition=0.0,
                   pool=Ray(shards=1, threads=1), on_step=kill)
except PoolError as error:
    print(error)
"""


@pytest.mark.ray
def test_a_head_that_is_gone_is_an_error_and_no_silent_end():
    """Ray's own answer is to end this process after a minute."""
    done = in_process(GONE)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"the head of the Ray cluster at \S+ has not answered for \d+ s", done.stdout)
