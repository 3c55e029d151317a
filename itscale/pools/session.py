"""Start a Ray of one's own on this machine, or join one that runs."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError, PoolError, missing_extra
from itscale.pools.private_folder import PrivateFolder

LOCAL = "local"
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 5.0
"""Between looks whether the head of a cluster is there."""
OWN_HEAD_SECONDS, HEAD_SECONDS = 10.0, 40.0
"""In which a head has to answer; that of one's own does not come back, others may be started again."""
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

    private: PrivateFolder
    environment: dict[str, str | None]

    @property
    def folder(self) -> Path:
        return self.private.path


_own: _Own | None = None
_heard = _looked = 0.0  # when the head answered last, and when it was asked last; 0 is never


def connect(
    address: str, *, cpus: int, gpus: float, object_store: int, resources: Mapping[str, float]
) -> Any:
    """Return the ``ray`` module, connected; a connection that exists is used, if it is to that address.

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
        ConfigError: if the address does not answer within seconds or runs another version, or if this
            process is connected to another one.
    """
    ray = load_ray()
    if ray.is_initialized():
        _check_same(ray, address)
        return ray
    if address == LOCAL:
        _start(ray, cpus, gpus, object_store, resources)
    else:
        _join(ray, address)
    return ray


def _check_same(ray: Any, address: str) -> None:
    """A process can be in one cluster only. Machines have several names, so ports are compared."""
    here = ray.get_runtime_context().gcs_address
    if address not in (LOCAL, "auto") and address.rpartition(":")[2] != here.rpartition(":")[2]:
        raise ConfigError(
            f"this process is connected to the Ray at {here!r} and cannot join the one at {address!r} too; "
            "call itscale.pools.session.disconnect() first, or use another process"
        )


def disconnect() -> None:
    """Leave Ray; one that this process started ends, and its folder is removed."""
    global _own, _heard, _looked
    _heard = _looked = 0.0
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
    if _own is not None:
        _set(_own.environment)
        _own.private.close()
        _own = None
    atexit.unregister(disconnect)


def check_head() -> None:
    """Leave a cluster whose head is gone; looks once in a while, however often it is called.

    Ray itself ends this process without an exception a minute after its head is lost.

    Raises:
        PoolError: if the head has not answered for long.
    """
    global _heard, _looked
    now = time.monotonic()
    if now - _looked < LOOK_SECONDS:
        return
    _looked, _heard = now, _heard or now
    address = load_ray().get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        _heard = now
    except OSError as error:
        seconds = OWN_HEAD_SECONDS if is_own() else HEAD_SECONDS
        if now - _heard < seconds:
            return
        disconnect()
        raise PoolError(
            f"the head of the Ray cluster at {address} has not answered for {now - _heard:.0f} s "
            f"({error.strerror or error}); start the cluster again, and go on with --resume"
        ) from error


def is_own() -> bool:
    """Whether this process started the Ray it uses."""
    return _own is not None


def _start(ray: Any, cpus: int, gpus: float, object_store: int, resources: Mapping[str, float]) -> None:
    global _own
    private = PrivateFolder("ray", _short_folder())
    token = private.path / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_TOKEN": None}
    _own = _Own(private, {name: os.environ.get(name) for name in settings})
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
            _temp_dir=str(private.path / "r"),  # which Ray opens to all; the folder around it stays shut
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
