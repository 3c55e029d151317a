"""Several machines, as far as one can stand for them: one is lost, and results are as if it were not."""

from __future__ import annotations

import pytest

from itscale.pools import Ray, session
from itscale.runs import run
from itscale.runs.cluster import Cluster
from tests.pools import test_equal_bits
from tests.pools.test_equal_bits import assert_same, local
from tests.pools.test_failures import LONG, METHOD
from tests.runs.test_workers import CONFIG, lines, plain, wait_until

pytestmark = pytest.mark.ray
STORE = 80 * 2**20
SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 6, "health_check_timeout_ms": 3000}


@pytest.fixture(scope="module")
def machines(own_ray):
    """A head without room, and three machines with a slot each, all on this one."""
    from ray.cluster_utils import Cluster as Machines

    session.disconnect()
    session.load_ray()
    made = Machines(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "_system_config": SOON,
        },
    )
    try:
        for _ in range(3):
            made.add_node(num_cpus=1, object_store_memory=STORE, resources={"slot": 1})
        yield made
    finally:
        session.disconnect()
        made.shutdown()


@pytest.fixture
def three(machines):
    """The machines, with as many as at first."""
    yield machines
    missing = 4 - len(machines.list_all_nodes())
    for _ in range(missing):
        machines.add_node(num_cpus=1, object_store_memory=STORE, resources={"slot": 1})


def answers(shard):
    """Whether a shard is alive, as Ray has heard."""
    import ray

    try:
        ray.get(shard.facts.remote(), timeout=5)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return False
    return True


def lose(machines, node):
    """End a machine's raylet, as a power cut would."""
    lost = next(n for n in machines.list_all_nodes() if n.node_id == node)
    machines.remove_node(lost, allow_graceful=False)


def test_a_lost_machine_costs_its_shard_time_alone(three, tmp_path):
    import ray

    pool = Ray(
        three.address,
        shards=2,
        cpus=0,
        threads=1,
        microbatch=8,
        bitwise=True,
        resources={"slot": 1},
        snapshots=str(tmp_path),
        snapshot_every=4,
    )
    seen = set()

    def on_step(step):
        crew = step.particles.rows.pool.crew
        seen.add(len(crew.nodes))
        if step.level == 6:
            lost = crew.shards[1]
            lose(three, ray.get(lost.facts.remote())["node"])
            wait_until(lambda: not answers(lost))  # its process outlives the raylet by a moment

    result = test_equal_bits.run(METHOD, pool, on_step=on_step, **LONG)
    assert seen == {2}  # the second shard lay on another machine, and lies on the third one now
    assert result.notes["pool"]["recoveries"] >= 1
    assert result.notes["pool"]["bytes_moved"] > 0
    assert_same(result, local(METHOD, **LONG))


def test_a_sweep_goes_on_when_a_machine_is_lost(three, tmp_path):
    events = []

    def listen(event):
        events.append(event)
        if len(events) == 12:
            import ray

            node = next(n for n in ray.nodes() if n["Alive"] and n["Resources"].get("slot"))
            lose(three, node["NodeID"])

    one = run(CONFIG, out=tmp_path / "one", threads=1)
    cluster = Cluster(three.address, gpus=0)
    done = run(CONFIG, out=tmp_path / "many", workers=3, threads=1, cluster=cluster, on_event=listen)
    assert (done.exit_code, done.failed) == (0, [])
    assert plain(done.rows) == plain(one.rows)
    for name in ("samples.jsonl", "trace.jsonl"):
        assert lines(done.folder, name) == lines(one.folder, name)
