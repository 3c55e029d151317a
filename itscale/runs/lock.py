"""A lock on a folder, held by one live process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

from itscale.errors import ConfigError

NAME = "lock.json"
TOUCH_EVERY, STALE = 20.0, 180.0
"""Seconds between signs of life, and without one after which a holder on another machine counts as gone."""


class FolderLock:
    """Holds ``lock.json`` with the process's id while in use; a lock left by a dead process is taken over.

    A process on another machine is dead if it has not touched its lock for ``STALE`` seconds, by the file
    system's own clock, or if it was this SLURM job before that was requeued.

    Raises:
        ConfigError: if a live process holds the folder, or one on another machine may.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def __enter__(self) -> FolderLock:
        mine = {"pid": os.getpid(), "host": platform.node(), "job": _job()}
        for _ in range(2):
            try:
                with self.path.open("x", encoding="utf-8") as file:
                    json.dump(mine, file)
                self._over = threading.Event()
                threading.Thread(target=self._keep_touching, daemon=True).start()
                return self
            except FileExistsError:
                self._take_over_or_refuse()
        raise ConfigError(f"the folder {self.path.parent} is being taken by another process; try again")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.path.unlink(missing_ok=True)

    def _keep_touching(self) -> None:
        while not self._over.wait(TOUCH_EVERY):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _take_over_or_refuse(self) -> None:
        where = self.path.parent
        pid, host, job = self._holder()
        if host != platform.node():
            if (job is None or job != _job()) and not _is_stale(self.path):
                raise ConfigError(
                    f"{where} is in use by process {pid} on {host}; if that one is gone, try again in "
                    f"{STALE:.0f} s, or delete {self.path}"
                )
        elif pid and _is_alive(pid):
            raise ConfigError(
                f"{where} is in use by process {pid}; wait for it, or choose another folder with --out "
                f"(if process {pid} is no run of itscale, delete {self.path})"
            )
        self.path.unlink(missing_ok=True)

    def _holder(self) -> tuple[int, str, str | None]:
        """Return process, machine and job of the lock; process 0 if its writer was killed while writing."""
        for _ in range(10):
            try:
                holder = json.loads(self.path.read_text(encoding="utf-8"))
                return int(holder["pid"]), str(holder["host"]), holder.get("job")
            except FileNotFoundError:
                break
            except (OSError, ValueError, KeyError, TypeError):
                time.sleep(0.05)  # its writer may be between making the file and filling it
        return 0, platform.node(), None


def holder(folder: Path) -> int | None:
    """Return the id of the live process that holds a folder, None if there is none.

    One on another machine counts as alive while it touches its lock.
    """
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        pid, host = int(found["pid"]), str(found["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_there = _is_alive(pid) if host == platform.node() else not _is_stale(folder / NAME)
    return pid if is_there else None


def _job() -> str | None:
    """The SLURM job and its task, which stay the same when it is requeued on another machine."""
    job, task = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID", "")
    return f"{job}.{task}" if job else None


def _is_stale(path: Path) -> bool:
    """Whether a lock was not touched for long; a file made beside it tells the time where clocks differ."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{NAME}.partial-") as probe:
            now = os.stat(probe.name).st_mtime
    except OSError:  # a folder that may be read alone
        now = time.time()
    try:
        return now - path.stat().st_mtime > STALE
    except FileNotFoundError:
        return True


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it exists, and belongs to someone else
        return True
    return True
