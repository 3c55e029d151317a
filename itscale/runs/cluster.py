"""A Ray cluster as a place for whole cells: what is asked of it, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from itscale.errors import ConfigError
from itscale.pools.session import LOCAL
from itscale.runs.cells import Cell

RAY = "ray"


@dataclass(frozen=True)
class Cluster:
    """Workers of a Ray cluster, each of which computes whole cells.

    Attributes:
        address: ``"local"`` starts a Ray on this machine, which ends with the run; ``"auto"`` or
            ``HOST:PORT`` joins a cluster.
        gpus: of each worker, fractions allowed; None is 1 where the cluster has GPUs, else 0. An
            autoscaling cluster that has none yet needs it said.
        start_timeout: seconds in which the first worker has to find a place and start. The others join as
            room comes, which an autoscaler may take long to make.
        deadline: seconds in which a worker has to say that it lives, however long its cell takes.
        object_store: bytes of shared memory, for a Ray of one's own.
    """

    address: str = LOCAL
    gpus: float | None = None
    start_timeout: float = 300.0
    deadline: float = 60.0
    object_store: int = 100 * 2**20

    def __post_init__(self) -> None:
        for name in ("start_timeout", "deadline"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"cluster.{name} is {getattr(self, name)}: it should be seconds above 0")
        if self.gpus is not None and self.gpus < 0:
            raise ConfigError(f"cluster.gpus is {self.gpus}: it should be 0 or more")

    @classmethod
    def named(cls, pool: str, gpus: float | None = None) -> Cluster:
        """Return the cluster that ``--pool`` names: ``ray`` is one of this machine alone."""
        return cls(LOCAL if pool == RAY else pool, gpus)

    def check(self, cells: tuple[Cell, ...], workers: int) -> None:
        """Raise ConfigError for what cannot work, before anything starts."""
        for cell in cells:
            if (cell.values.get("pool") or {}).get("name", "local") != "local":
                raise ConfigError(
                    f"cell '{cell.label}' shards its particles (pool.name {cell.values['pool']['name']!r}), "
                    "and a sweep over a cluster gives whole cells to workers; choose one: set pool.name=local"
                )
        there = torch.cuda.device_count()
        if self.address == LOCAL and self.gpus and workers * self.gpus > there:
            raise ConfigError(
                f"{workers} workers with {self.gpus:g} GPUs each need {workers * self.gpus:g}, and this "
                f"machine has {there}; lower --workers or --gpus"
            )
