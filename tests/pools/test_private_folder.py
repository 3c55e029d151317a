"""Temporary folders are shut to others, and those of killed processes are removed by whoever comes next."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys

from itscale.pools import private_folder
from itscale.pools.private_folder import OWNER, PrivateFolder

KILLED = """
import os, signal, sys
from itscale.pools.private_folder import PrivateFolder
print(PrivateFolder("ray", sys.argv[1]).path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_folder_of_a_killed_process_is_removed_and_those_of_live_ones_stay(tmp_path):
    mine = PrivateFolder("rows", str(tmp_path))
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = tmp_path / killed.stdout.strip()
    (left / "deep").mkdir()
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    (tmp_path / "itscale-of-somebody").mkdir()  # without an owner's file it is none of these
    another = PrivateFolder("cell", str(tmp_path))
    assert not left.exists()
    assert mine.path.exists()
    assert (tmp_path / "itscale-of-somebody").exists()
    for folder in (mine, another):
        folder.close()
        assert not folder.path.exists()


def test_folder_of_another_machine_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(private_folder.platform, "node", lambda: "another")
    theirs = PrivateFolder("rows", str(tmp_path))
    theirs._lock.close()
    monkeypatch.undo()
    private_folder.remove_abandoned(str(tmp_path))
    assert (theirs.path / OWNER).exists()
