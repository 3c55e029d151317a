"""Sweeps over a Ray cluster: the rows of one process, and what happens when workers or the driver die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from itscale.errors import PoolError
from itscale.pools import session
from itscale.runs import CellRetried, ray_cells, run
from itscale.runs.cluster import Cluster
from tests.runs.test_workers import CONFIG, PLACE, children, finished, is_running, lines, plain, wait_until

ROOT = Path(__file__).resolve().parents[2]
MODULE = "tests.runs.test_ray_cells"


def hang_once(samples):
    """Stop the process, threads and all, at the first call."""
    mark = Path(os.environ[PLACE]) / "hung"
    with contextlib.suppress(FileExistsError):
        mark.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGSTOP)
    return samples[:, 0]


def interrupted(samples):
    raise KeyboardInterrupt


def slow(samples):
    time.sleep(0.05)
    return samples[:, 0]


@pytest.fixture(scope="module")
def cluster():
    """A Ray on this machine that the tests of this file share."""
    session.connect("local", cpus=2, gpus=0, object_store=100 * 2**20, resources={})
    yield Cluster()
    session.disconnect()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The sweep in this process."""
    return run(CONFIG, out=tmp_path_factory.mktemp("one") / "run", threads=1)


def assert_same(done, one):
    assert (done.exit_code, done.failed) == (0, [])
    assert plain(done.rows) == plain(one.rows)
    for name in ("samples.jsonl", "trace.jsonl"):
        assert lines(done.folder, name) == lines(one.folder, name)


@pytest.mark.ray
def test_two_workers_write_what_one_process_writes(tmp_path, one, cluster):
    done = run(CONFIG, out=tmp_path / "a", workers=2, threads=1, cluster=cluster)
    assert_same(done, one)
    assert {p.name for p in done.folder.iterdir()} == {p.name for p in one.folder.iterdir()}


@pytest.mark.ray
def test_pictures_come_back_from_a_worker_that_does_not_see_the_folder(tmp_path, cluster, monkeypatch):
    config = {
        "model": {"name": "digits", "condition": 3},
        "reward": "ink",
        "method": {"name": "best-of-n", "particles": 2},
        "run": {"steps": 2, "save": True},
    }
    here = run(config, out=tmp_path / "here", threads=1)
    kept = ray_cells.Place
    monkeypatch.setattr(ray_cells, "Place", lambda folder, mark, *rest: kept("/nowhere", "another", *rest))
    there = run(config, out=tmp_path / "there", workers=1, threads=1, cluster=cluster)
    assert plain(there.rows) == plain(here.rows)
    files = [{p.relative_to(r.folder) for p in r.folder.rglob("*") if p.is_file()} for r in (here, there)]
    assert files[0] == files[1]
    picture = next(p for p in files[0] if p.suffix == ".png")
    assert (here.folder / picture).read_bytes() == (there.folder / picture).read_bytes()


@pytest.mark.ray
@pytest.mark.parametrize("reward", ["tests.runs.test_workers:fatal_once", f"{MODULE}:hang_once"])
def test_cell_whose_worker_is_killed_or_hangs_is_tried_again(tmp_path, one, cluster, monkeypatch, reward):
    monkeypatch.setenv(PLACE, str(tmp_path))
    events = []
    config = {**CONFIG, "reward": reward}
    done = run(
        config,
        out=tmp_path / "a",
        workers=2,
        threads=1,
        cluster=Cluster(deadline=60 if "fatal" in reward else 10),
        on_event=events.append,
    )
    assert (done.exit_code, done.failed, len(done.rows)) == (0, [], 6)
    assert len({e.key for e in events if isinstance(e, CellRetried)}) == 1
    rows = [json.loads(line) for line in (done.folder / "trace.jsonl").read_text().splitlines()]
    moves = [(row["cell"], row["group"], row["level"]) for row in rows]
    assert len(set(moves)) == len(moves) == 6 * 2 * 4
    assert [row["reward"] for row in done.rows] == [row["reward"] for row in one.rows]


@pytest.mark.ray
def test_cell_that_kills_every_worker_is_recorded_and_the_others_go_on(tmp_path, cluster):
    rewards = ["tests.runs.test_workers:fatal", "tests.runs.test_workers:first_coordinate"]
    config = {**CONFIG, "method": "smc", "sweep": {"reward": rewards}}
    done = run(config, out=tmp_path / "a", workers=2, threads=1, cluster=cluster)
    assert (done.exit_code, len(done.rows), len(done.failed)) == (3, 1, 1)
    assert "3 times" in done.failed[0]["error"]


class Heard:
    """What a crew asks of Ray and of the recorder while it buries workers."""

    def __init__(self, alive):
        self.alive = set(alive)
        self.retries, self.failures = [], []

    def nodes(self):
        return [{"NodeID": node, "Alive": node in self.alive} for node in "abcd"]

    def started(self, cell):
        """Nothing to keep."""

    def retried(self, cell, why):
        self.retries.append(why)

    def ended(self, end):
        self.failures.append(end[1])


@pytest.mark.parametrize(("lost", "failures"), [("", 1), ("a", 0), ("ab", 0)])
def test_deaths_on_machines_that_prove_lost_later_do_not_count(tmp_path, lost, failures):
    heard = Heard("abcd")
    cell = SimpleNamespace(key="k", label="l", model=None)
    crew = ray_cells._Crew(
        SimpleNamespace(nodes=heard.nodes, remote=lambda made: made),
        Cluster(),
        {},
        None,
        SimpleNamespace(put_back=lambda back: None),
        heard,
        tmp_path,
    )
    for number, node in enumerate("abc"):  # no machine is known to be lost when its worker falls silent
        crew._send_back(ray_cells._Worker(number, None, None, 0.0, node, [cell]), "was lost")
        if number == 1:
            heard.alive -= set(lost)
    assert (len(heard.retries), len(heard.failures)) == (3 - failures, failures)


@pytest.mark.ray
def test_cell_that_is_interrupted_stops_the_sweep(tmp_path, cluster):
    config = {**CONFIG, "reward": f"{MODULE}:interrupted"}
    assert run(config, out=tmp_path / "a", workers=1, threads=1, cluster=cluster).exit_code == 130


@pytest.mark.ray
def test_no_room_is_an_error_in_time_that_says_what_there_is(tmp_path, cluster):
    asked = Cluster(gpus=1.0, address="auto", start_timeout=2)
    with pytest.raises(
        PoolError, match=r"1 CPUs and 1 GPUs found a place in 2 s; the cluster has .*: \d+ CPUs, 0"
    ):
        run(CONFIG, out=tmp_path / "a", workers=2, threads=1, cluster=asked)
    assert run(CONFIG, out=tmp_path / "a", resume=True).exit_code == 0  # nothing is lost


@pytest.mark.ray
def test_worker_of_another_version_is_refused(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("itscale.runs.ray_cells.__version__", "99.0")
    with pytest.raises(PoolError, match=r"runs itscale 0\.\S+, and this program 99\.0"):
        run(CONFIG, out=tmp_path / "a", workers=1, threads=1, cluster=cluster)


def is_agent(pid):
    """Whether a process is one of Ray's that report on a machine; these stay a minute after a kill."""
    return "Agent" in Path(f"/proc/{pid}/cmdline").read_text()


DRIVER = f"""
import sys
from itscale.runs import run
from itscale.runs.cluster import Cluster
from tests.runs.test_workers import CONFIG
if __name__ == "__main__":
    config = {{**CONFIG, "reward": "{MODULE}:slow", "sweep": {{"run.seed": list(range(12))}}}}
    run({{**config, "method": "smc"}}, out=sys.argv[1], workers=2, threads=1, cluster=Cluster())
"""


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc")
def test_resuming_after_the_driver_was_killed_computes_what_is_missing_alone(tmp_path):
    folder = tmp_path / "a"
    (tmp_path / "driver.py").write_text(DRIVER)
    words = [sys.executable, str(tmp_path / "driver.py"), str(folder)]
    driver = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len(finished(folder)) >= 2)
        daemons = children(driver.pid)
        workers = [pid for daemon in daemons for pid in children(daemon) if not is_agent(pid)]
    finally:
        driver.kill()
        driver.wait(timeout=60)
    assert workers
    wait_until(lambda: not any(is_running(pid) for pid in (*daemons, *workers)))
    before = {path: path.stat().st_mtime_ns for path in finished(folder)}
    assert 2 <= len(before) < 12
    config = {**CONFIG, "reward": f"{MODULE}:slow", "sweep": {"run.seed": list(range(12))}, "method": "smc"}
    done = run(config, out=folder, resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_same(done, run(config, out=tmp_path / "b"))
