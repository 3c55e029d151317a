"""Runs in several processes: the same rows as in one, and what happens when processes die."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from itscale.errors import ConfigError
from itscale.models import GaussianMixture
from itscale.runs import CellRetried, load_config, run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "model": {"name": "tests.runs.test_workers:mixture", "condition": [None, None]},
    "reward": "tests.runs.test_workers:first_coordinate",
    "run": {"steps": 4, "budget": {"nfe": 16}},
    "sweep": {"method": ["unguided", "best-of-n", "smc"], "run.seed": [0, 1]},
}
MACHINE_FACTS = ("seconds", "threads", "peak_memory_bytes")
PLACE = "ITSCALE_TEST_PLACE"


def mixture():
    """A model that tells which process loaded it."""
    if PLACE in os.environ:
        with (Path(os.environ[PLACE]) / "loaded").open("a") as file:
            file.write(f"{os.getpid()}\n")
    return GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.5, 0.5])


def first_coordinate(samples):
    return samples[:, 0]


def fatal_once(samples):
    """Kill the process at the first call of all."""
    mark = Path(os.environ[PLACE]) / "died"
    with contextlib.suppress(FileExistsError):
        mark.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return samples[:, 0]


def fatal(samples):
    os.kill(os.getpid(), signal.SIGKILL)


def fatal_too(samples):
    fatal(samples)


def slow(samples):
    time.sleep(0.03)
    return samples[:, 0]


def plain(rows):
    """Rows without what depends on the machine's hurry."""
    return [json.dumps({k: v for k, v in row.items() if k not in MACHINE_FACTS}) for row in rows]


def lines(folder, name):
    return plain(json.loads(line) for line in (folder / name).read_text().splitlines())


def test_two_workers_write_what_one_writes_and_load_a_model_once_each(tmp_path, monkeypatch):
    one = run(CONFIG, out=tmp_path / "one", threads=1)
    monkeypatch.setenv(PLACE, str(tmp_path))
    two = run(CONFIG, out=tmp_path / "two", workers=2, threads=1)
    assert (one.exit_code, two.exit_code, len(one.rows)) == (0, 0, 6)
    assert plain(two.rows) == plain(one.rows)
    loaded = (tmp_path / "loaded").read_text().splitlines()
    # one entry a worker that computed anything: six short cells may be over before the second has started
    assert 1 <= len(loaded) == len(set(loaded)) <= 2
    for name in ("samples.jsonl", "trace.jsonl"):
        assert lines(two.folder, name) == lines(one.folder, name)
    assert {p.name for p in two.folder.iterdir()} == {p.name for p in one.folder.iterdir()}


def test_cell_whose_worker_dies_is_tried_again_and_leaves_no_trace_of_the_first_time(tmp_path, monkeypatch):
    monkeypatch.setenv(PLACE, str(tmp_path))
    events = []
    config = {**CONFIG, "reward": "tests.runs.test_workers:fatal_once"}
    done = run(config, out=tmp_path / "a", workers=2, threads=1, on_event=events.append)
    assert (done.exit_code, done.failed, len(done.rows)) == (0, [], 6)
    retried = [event for event in events if isinstance(event, CellRetried)]
    assert len(retried) == 1
    assert "SIGKILL" in retried[0].why
    rows = [json.loads(line) for line in (done.folder / "trace.jsonl").read_text().splitlines()]
    moves = [(row["cell"], row["group"], row["level"]) for row in rows]
    assert len(set(moves)) == len(moves) == 6 * 2 * 4


def test_cell_whose_workers_die_twice_is_recorded_and_the_others_go_on(tmp_path):
    rewards = [f"tests.runs.test_workers:{name}" for name in ("fatal", "fatal_too", "first_coordinate")]
    config = {**CONFIG, "method": "smc", "sweep": {"reward": rewards}}
    done = run(config, out=tmp_path / "a", workers=2, threads=1)
    assert done.exit_code == 3
    assert (len(done.rows), len(done.failed)) == (1, 2)  # both workers died, and new ones went on
    assert "SIGKILL" in done.failed[0]["error"]


DRIVER = """
import signal
import sys
from itscale.runs import run
from tests.runs.test_workers import CONFIG
if __name__ == "__main__":
    config = {**CONFIG, "reward": "tests.runs.test_workers:slow", "sweep": {"run.seed": list(range(12))}}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    run({**config, "method": "smc"}, out=sys.argv[1], workers=2, threads=1, resume=len(sys.argv) > 2)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_resuming_after_the_first_process_was_killed_computes_what_is_missing_alone(tmp_path, how):
    folder = tmp_path / "a"
    (tmp_path / "driver.py").write_text(DRIVER)
    words = [sys.executable, str(tmp_path / "driver.py"), str(folder)]
    driver = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len(finished(folder)) >= 2)
        workers = children(driver.pid)
        driver.send_signal(how)
        driver.wait(timeout=120)
    finally:
        driver.kill()
    assert len(workers) >= 2
    wait_until(lambda: not any(is_running(pid) for pid in workers))  # no orphan goes on writing
    before = {path: path.stat().st_mtime_ns for path in finished(folder)}
    assert 2 <= len(before) < 12
    config = {**CONFIG, "reward": "tests.runs.test_workers:slow", "sweep": {"run.seed": list(range(12))}}
    done = run({**config, "method": "smc"}, out=folder, resume=True)
    assert (done.exit_code, len(done.rows)) == (0, 12)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole = run({**config, "method": "smc"}, out=tmp_path / "b")
    assert plain(done.rows) == plain(whole.rows)
    assert lines(folder, "samples.jsonl") == lines(tmp_path / "b", "samples.jsonl")
    assert lines(folder, "trace.jsonl") == lines(tmp_path / "b", "trace.jsonl")


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    run(CONFIG, out=tmp_path / "a")
    with pytest.raises(ConfigError, match=r"run\.steps: 4 there, 5 now"):
        run({**CONFIG, "run": {**CONFIG["run"], "steps": 5}}, out=tmp_path / "a", resume=True)


def test_another_version_is_another_content(tmp_path, monkeypatch):
    run(CONFIG, out=tmp_path / "a")
    for module in ("cells", "store"):
        monkeypatch.setattr(f"itscale.runs.{module}.__version__", "99.0")
    with pytest.raises(ConfigError, match=r"made by itscale 0\.\S+, and this is 99\.0"):
        run(CONFIG, out=tmp_path / "a", resume=True)


@pytest.mark.parametrize("counts", [{"workers": 0}, {"threads": 0}])
def test_counts_below_one_are_refused_before_a_folder_is_made(tmp_path, counts):
    with pytest.raises(ConfigError, match="at least 1"):
        run(CONFIG, out=tmp_path / "a", **counts)
    assert not (tmp_path / "a").exists()


def finished(folder):
    return list(folder.glob("cells/*/summary.json"))


def wait_until(is_so, seconds=300):  # a busy machine takes long to start three processes
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_config_is_read_once_more_from_its_folder(tmp_path):
    done = run(CONFIG, out=tmp_path / "a")
    assert load_config(done.folder / "config.yaml").identity == load_config(CONFIG).identity


@pytest.mark.slow
def test_disk_that_fails_is_no_death_of_a_worker(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr("itscale.runs.store.Store.finish_cells", fail)
    with pytest.raises(OSError, match="no space left"):
        run(CONFIG, out=tmp_path / "a", workers=2, threads=1)
    ours = [p.name for p in multiprocessing.active_children() if p.name.startswith("itscale-")]
    assert ours == []  # pools of rewards that other tests left open have names of their own
