"""A lock on a run's folder, held by one live process at a time."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from types import TracebackType

from itscale.errors import ConfigError

NAME = "lock.json"


class FolderLock:
    """Holds ``lock.json`` with the process's id while in use; a lock left by a dead process is taken over.

    Raises:
        ConfigError: if a live process holds the folder, or one on another machine may.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def __enter__(self) -> FolderLock:
        mine = {"pid": os.getpid(), "host": platform.node()}
        for _ in range(2):
            try:
                with self.path.open("x", encoding="utf-8") as file:
                    json.dump(mine, file)
                return self
            except FileExistsError:
                self._take_over_or_refuse()
        raise ConfigError(f"the folder {self.path.parent} is being taken by another process; try again")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)

    def _take_over_or_refuse(self) -> None:
        where = self.path.parent
        pid, host = self._holder()
        if host != platform.node():
            raise ConfigError(
                f"{where} is in use by process {pid} on {host}; if that one is gone, delete {self.path}"
            )
        if pid and _is_alive(pid):
            raise ConfigError(
                f"{where} is in use by process {pid}; wait for it, or choose another folder with --out "
                f"(if process {pid} is no run of itscale, delete {self.path})"
            )
        self.path.unlink(missing_ok=True)

    def _holder(self) -> tuple[int, str]:
        """Return process and machine of the lock; process 0 if its writer was killed while writing."""
        for _ in range(10):
            try:
                holder = json.loads(self.path.read_text(encoding="utf-8"))
                return int(holder["pid"]), str(holder["host"])
            except FileNotFoundError:
                break
            except (OSError, ValueError, KeyError, TypeError):
                time.sleep(0.05)  # its writer may be between making the file and filling it
        return 0, platform.node()


def holder(folder: Path) -> int | None:
    """Return the id of the live process that holds a folder, None if there is none.

    One on another machine counts as alive.
    """
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        pid, host = int(found["pid"]), str(found["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if host != platform.node() or _is_alive(pid) else None


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
