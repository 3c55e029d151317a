"""Temporary folders that one user can read; those of processes that were killed go at the next start."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

PREFIX = "itscale-"
OWNER = "owner"
"""File that the owner of a folder keeps locked: a kernel gives the lock up when the process ends, however."""


class PrivateFolder:
    """A temporary folder that is removed by ``close``, or after a kill by the next process that makes one.

    Args:
        kind: a word for its name.
        parent: where it lies; None is the usual place.
    """

    def __init__(self, kind: str, parent: str | None = None) -> None:
        remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=parent))
        new = self.path / f"{OWNER}.new"
        self._lock = new.open("w")
        self._lock.write(platform.node())
        self._lock.flush()
        _try_lock(self._lock)
        new.rename(self.path / OWNER)  # no one sees the file without its lock

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.close()


def remove_abandoned(parent: str | None = None) -> None:
    """Remove this user's folders of this machine whose owners have ended."""
    for file in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        with contextlib.suppress(OSError):  # another user's, or one that is being removed
            if file.stat().st_uid != os.getuid():
                continue
            with file.open("r+") as lock:
                is_here = lock.read() == platform.node()  # others may have locks that do not show here
                if is_here and _try_lock(lock):
                    shutil.rmtree(file.parent, ignore_errors=True)


def _try_lock(file: Any) -> bool:
    """Lock a file unless another process has it; False where a system has no such locks."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
