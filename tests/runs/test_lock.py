"""One folder is one run's at a time."""

import json
import os
import platform
import subprocess
import sys
import threading
import time

import pytest

from itscale.errors import ConfigError
from itscale.runs import StepDone, run
from itscale.runs.lock import FolderLock

CONFIG = {"model": "gaussian-mixture", "method": "unguided", "run": {"steps": 2}}


def lock_of(folder, pid, host=None):
    (folder / "lock.json").write_text(json.dumps({"pid": pid, "host": host or platform.node()}))


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_in_use_is_refused_by_name_with_what_to_do(tmp_path):
    live = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lock_of(tmp_path, live.pid)
        with pytest.raises(ConfigError) as refused:
            run(CONFIG, out=tmp_path)
    finally:
        live.communicate(b"\n")
    for part in (str(tmp_path), f"process {live.pid}", "wait for it", "--out", "lock.json"):
        assert part in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["lock.json"]


def test_a_second_run_inside_the_first_is_refused_and_the_first_ends_well(tmp_path):
    refused = []

    def again(event):
        if isinstance(event, StepDone) and not refused:
            with pytest.raises(ConfigError, match="in use by process") as error:
                run(CONFIG, out=tmp_path, resume=True)
            refused.append(error)

    assert run(CONFIG, out=tmp_path, on_event=again).exit_code == 0
    assert refused
    assert not (tmp_path / "lock.json").exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    lock_of(tmp_path, dead_process())
    assert run(CONFIG, out=tmp_path).exit_code == 0


def test_the_lock_of_another_machine_is_respected(tmp_path):
    lock_of(tmp_path, dead_process(), "another-machine")
    with pytest.raises(ConfigError, match=r"on another-machine; if that one is gone, .*delete .*lock\.json"):
        run(CONFIG, out=tmp_path)


def test_a_lock_that_nobody_fills_is_taken_over(tmp_path):
    (tmp_path / "lock.json").write_text("")
    assert run(CONFIG, out=tmp_path).exit_code == 0


def test_a_lock_between_its_making_and_its_filling_is_respected(tmp_path):
    path = tmp_path / "lock.json"
    path.write_text("")

    def fill():
        time.sleep(0.1)
        lock_of(tmp_path, os.getpid())

    writer = threading.Thread(target=fill)
    writer.start()
    try:
        with pytest.raises(ConfigError, match="in use"), FolderLock(tmp_path):
            pass
    finally:
        writer.join()


def test_a_failure_gives_the_folder_back(tmp_path):
    with pytest.raises(RuntimeError), FolderLock(tmp_path):
        raise RuntimeError
    assert not (tmp_path / "lock.json").exists()
