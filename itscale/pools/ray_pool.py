"""Several processes, on one machine or many: every one holds a share of the particles."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from itscale.errors import ConfigError

if TYPE_CHECKING:
    from itscale.pools.open_ray import OpenRay

MOST_DEFAULT_SHARDS = 4


@dataclass(frozen=True)
class Ray:
    """Particles sharded over the processes of a Ray cluster; the driver weighs and decides, states stay put.

    Same seed, same micro-batch, ``bitwise=True``: equal bits as ``Local`` with as many threads, whatever the
    number of shards and whatever fails on the way. A lost shard is made anew and all go on from the last
    snapshot.

    Worth it where the network takes long: an act of all shards costs the driver a few milliseconds, and a
    resampling that moves states more; ``itscale doctor --ray`` measures both.

    Attributes:
        address: ``"local"`` starts a Ray on this machine, which ends with this process; ``"auto"`` or
            ``HOST:PORT`` joins a cluster.
        shards: processes that hold particles; None is one per GPU of the cluster, or without any one per core
            of this machine, four at most.
        gpus: of each shard, fractions allowed; None is 1 where there are GPUs, else 0.
        cpus: of each shard.
        resources: of each shard, by names of one's own that machines offer.
        threads: of torch in each shard; None is ``cpus``, at least 1.
        microbatch, bitwise, device: as for ``Local``.
        object_store: bytes of shared memory, for a Ray of one's own.
        start_timeout: seconds to wait for a place and for processes to start.
        deadline: seconds after which a shard that does not answer is given up; a verb that has taken more
            than a fifth of it gets five times its longest.
        first_deadline: the same for the first call of every verb, which may load or compile.
        snapshots: folder that all machines share; None is a temporary one where all shards are on this
            machine, and elsewhere means none: a recovery then repeats the run from its start.
        snapshot_every: calls between snapshots; a step of a method takes about three.
        max_recoveries: after which a run fails.
        prometheus: tell Ray's metrics what every step cost, which exports them to Prometheus; needs a cluster
            with a dashboard agent, ``ray[default]``.
    """

    address: str = "local"
    shards: int | None = None
    gpus: float | None = None
    cpus: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)
    threads: int | None = None
    microbatch: int | None = None
    bitwise: bool = False
    device: str | None = None
    object_store: int = 200 * 2**20
    start_timeout: float = 300.0
    deadline: float = 30.0
    first_deadline: float = 600.0
    snapshots: str | None = None
    snapshot_every: int = 15
    max_recoveries: int = 10
    prometheus: bool = False

    def __post_init__(self) -> None:
        for name in ("shards", "microbatch", "threads", "snapshot_every"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"pool.{name} must be a whole number >= 1, got {value!r}")
        for name in ("start_timeout", "deadline", "first_deadline"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigError(f"pool.{name} must be seconds > 0, got {value!r}")
        for name in ("gpus", "cpus"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise ConfigError(f"pool.{name} must be a number >= 0, got {value!r}")
        for name, value in self.resources.items():
            if not (isinstance(value, int | float) and value > 0):
                raise ConfigError(f"pool.resources[{name!r}] must be a number > 0, got {value!r}")
        if self.object_store < 80 * 2**20:
            raise ConfigError(
                f"pool.object_store is {self.object_store} bytes, and Ray wants at least 80 MiB: {80 * 2**20}"
            )
        if self.max_recoveries < 0:
            raise ConfigError(f"pool.max_recoveries must be >= 0, got {self.max_recoveries}")

    def open(self, factory: Callable[..., Any]) -> OpenRay:
        """Place shards, or take those that an earlier run has left, and build a worker in each.

        Raises:
            MissingExtra: if Ray is not installed.
            ConfigError: for an address that does not answer, more than this machine has, other versions.
            PoolError: if there is no room in time.
        """
        from itscale.pools.session import load_ray

        load_ray()
        from itscale.pools.open_ray import OpenRay

        return OpenRay(self, factory)

    def shares(self, gpus_there: float) -> tuple[int, dict[str, float], int]:
        """How many shards, what each asks Ray for, and torch threads of each."""
        gpus = (1.0 if gpus_there else 0.0) if self.gpus is None else float(self.gpus)
        count = self.shards
        if count is None:
            cores = min(MOST_DEFAULT_SHARDS, os.cpu_count() or 1)
            count = max(1, int(gpus_there / gpus)) if gpus else cores
        threads = self.threads or max(1, int(self.cpus))
        return count, {"CPU": float(self.cpus), "GPU": gpus, **self.resources}, threads

    @property
    def local_gpus(self) -> float:
        """GPUs that a Ray of one's own is to offer."""
        return float(torch.cuda.device_count())
