"""Start a Ray of one's own on this machine, or join one that runs."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError, PoolError, missing_extra

LOCAL = "local"
ANSWER_SECONDS = 5.0
MIN_RAY = (2, 55)


def load_ray() -> Any:
    """Import Ray.

    Raises:
        MissingExtra: if it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's next default; without it a warning is printed at every start
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "cluster", "a pool over several processes") from error
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < MIN_RAY:
        raise ConfigError(
            f"Ray {ray.__version__} is older than {'.'.join(map(str, MIN_RAY))}, whose jobs interface needs "
            "no token; pip install 'itscale[cluster]'"
        )
    return ray


@dataclass
class _Own:
    """The Ray that this process started."""

    folder: Path
    environment: dict[str, str | None]


_own: _Own | None = None


def connect(
    address: str, *, cpus: int, gpus: float, object_store: int, resources: Mapping[str, float]
) -> Any:
    """Return the ``ray`` module, connected; a connection that exists is used as it is.

    A Ray of one's own answers nobody without a token that only this user can read, keeps its files in a
    private temporary folder, has no dashboard, and ends with this process or with ``disconnect``.

    Args:
        address: ``"local"`` starts one; ``"auto"`` or ``HOST:PORT`` joins one.
        cpus: that a Ray of one's own must offer at least.
        gpus: the same; a machine without them cannot.
        object_store: bytes of shared memory, for a Ray of one's own.
        resources: names of one's own, with amounts, for a Ray of one's own.

    Raises:
        MissingExtra: if Ray is not installed.
        ConfigError: if the address does not answer within seconds, or runs another version.
    """
    ray = load_ray()
    if ray.is_initialized():
        return ray
    if address == LOCAL:
        _start(ray, cpus, gpus, object_store, resources)
    else:
        _join(ray, address)
    return ray


def disconnect() -> None:
    """Leave Ray; one that this process started ends, and its folder is removed."""
    global _own
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
    if _own is not None:
        _set(_own.environment)
        shutil.rmtree(_own.folder, ignore_errors=True)
        _own = None
    atexit.unregister(disconnect)


def is_own() -> bool:
    """Whether this process started the Ray it uses."""
    return _own is not None


def _start(ray: Any, cpus: int, gpus: float, object_store: int, resources: Mapping[str, float]) -> None:
    global _own
    folder = Path(tempfile.mkdtemp(prefix="itscale-", dir=_short_folder()))
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_TOKEN": None}
    _own = _Own(folder, {name: os.environ.get(name) for name in settings})
    _set(settings)
    try:
        ray.init(
            address="local",
            num_cpus=max(cpus, os.cpu_count() or 1),
            num_gpus=int(gpus) if gpus else None,
            resources=dict(resources) or None,
            object_store_memory=object_store,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(folder / "r"),  # which Ray opens to all; the folder around it stays shut
        )
    except Exception as error:
        disconnect()
        raise PoolError(
            f"a local Ray did not start: {_last(error)}; 'itscale doctor --ray' tries it, and pools.Local "
            "needs none"
        ) from error
    atexit.register(disconnect)


def _join(ray: Any, address: str) -> None:
    if address != "auto":
        check_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except RuntimeError as error:
        if "ersion" in str(error):
            raise ConfigError(
                f"the cluster at {address!r} runs other versions than this program: {_last(error)}; install "
                "the same Python and Ray on both sides"
            ) from error
        raise ConfigError(f"cannot join the cluster at {address!r}: {_last(error)}") from error
    except Exception as error:  # Ray raises what it likes here: connection, token, value errors
        raise ConfigError(
            f"cannot join the cluster at {address!r}: {_last(error)}; check the address, and "
            "RAY_AUTH_MODE=token with RAY_AUTH_TOKEN_PATH for a cluster that wants a token"
        ) from error
    atexit.register(disconnect)


def check_answer(address: str) -> None:
    """Raise ConfigError at once where nobody listens: Ray itself would try for a minute."""
    where = address.removeprefix("ray://")
    host, colon, port = where.rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(
            f"pool address {address!r} is none: it should be 'local', 'auto' or HOST:PORT, such as "
            "10.0.0.5:6379"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"nobody answers at {address!r} ({error.strerror or error}); start the cluster, or use "
            "--pool ray for one on this machine"
        ) from error


def _set(environment: Mapping[str, str | None]) -> None:
    """Set variables that say how Ray authenticates, and make Ray read them again."""
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:  # Ray reads them once, when it is imported; its own tests refresh them so
        raylet: Any = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
    except (ImportError, AttributeError):  # older ones, which read them at every start
        return


def _short_folder() -> str | None:
    """Where temporary folders go; Ray's sockets lie deep below it, and their paths end at 107 bytes."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 30 or not os.access("/tmp", os.W_OK) else "/tmp"


def _last(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
