"""The state of an unfinished run on disk: written now and then, and when the run is interrupted."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from itscale.engine import Engine
from itscale.engine.snapshot import plain, revive
from itscale.errors import ConfigError
from itscale.methods import State

VERSION = 1


@dataclass
class Checkpoint:
    """Where a run is kept, and for which settings.

    Attributes:
        path: the file. It is replaced in one go, so that a kill leaves the one before.
        request: the settings that were asked for, as plain values; a file of other settings is refused.
        every: seconds between savings.
    """

    path: Path
    request: dict[str, Any]
    every: float = 30.0
    saved_at: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if not self.every >= 0:
            raise ConfigError(f"checkpoint_every must be >= 0 seconds, got {self.every!r}")

    def load(self) -> dict[str, Any] | None:
        """Read the file, if there is one.

        Raises:
            ConfigError: if it is of another run, or not a checkpoint of this version.
        """
        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, weights_only=True)
            version, request = saved["version"], saved["request"]
        except Exception as error:  # whatever a foreign or broken file makes of it
            raise ConfigError(
                f"checkpoint {str(self.path)!r} cannot be read ({type(error).__name__}); delete it, or name "
                "another file"
            ) from error
        if version != VERSION:
            raise ConfigError(f"checkpoint {str(self.path)!r} has version {version}, this is {VERSION}")
        mine = plain(self.request)
        theirs = {**request, "pool": _arithmetic(request.get("pool"))}
        ours = {**mine, "pool": _arithmetic(mine.get("pool"))}
        different = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
        if different:
            key = different[0]
            raise ConfigError(
                f"checkpoint {str(self.path)!r} is of another run: {key} was {request.get(key)!r} and is "
                f"{mine.get(key)!r} now; resume with the same settings, or name another file"
            )
        return saved

    def save(
        self,
        engine: dict[str, Any],
        state: State,
        trace: list[dict[str, Any]],
        prelude: dict[str, Any],
    ) -> None:
        """Write the state after a step, with the engine's snapshot of that moment."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        torch.save(
            {
                "version": VERSION,
                "request": plain(self.request),
                "prelude": plain(prelude),
                "engine": plain(engine),
                "state": plain(state),
                "trace": plain(trace),
            },
            partial,
        )
        os.replace(partial, self.path)
        self.saved_at = time.perf_counter()

    @property
    def is_due(self) -> bool:
        return time.perf_counter() - self.saved_at >= self.every

    def restore(self, saved: dict[str, Any], engine: Engine) -> tuple[State, list[Any]]:
        """Put an engine back where it was, and return the method's state and the trace."""
        engine.restore(revive(saved["engine"], _refuse))
        return revive(saved["state"], engine.pool.adopt), revive(saved["trace"], _refuse)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _arithmetic(pool: dict[str, Any] | None) -> dict[str, Any]:
    """What results may depend on of a pool: a run may go on elsewhere, and with other shards."""
    return {name: (pool or {}).get(name) for name in ("microbatch", "bitwise")}


def _refuse(rows: Any) -> Any:
    raise ConfigError("the checkpoint holds rows where there are none")
