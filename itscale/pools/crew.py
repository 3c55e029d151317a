"""The processes of a pool: where they are placed, whether they live, and new ones for those that do not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from itscale.errors import ConfigError, PoolError
from itscale.pools.lines import Address, Lines
from itscale.pools.session import is_own
from itscale.pools.shard import Shard, versions

PROBE_SECONDS = 2.0


@dataclass(frozen=True)
class Berth:
    """What every shard gets.

    Attributes:
        resources: by Ray's names, ``CPU`` and ``GPU`` among them.
        threads: of torch.
        timeout: seconds to wait for room and for processes to start.
    """

    resources: Mapping[str, float]
    threads: int
    timeout: float


@dataclass
class Crew:
    """Shards of one pool. They stay from run to run, so that models are loaded once.

    Attributes:
        shards: handles of the actors.
        sites: (shards,) which machine each is on.
        group: the placement group that they sit in.
        origin: what Ray calls the machine of this process; every start of Ray has a name of its own.
        lines: to the shards; None where every call has to go through Ray.
        why_none: why there are no lines.
    """

    ray: Any
    berth: Berth
    shards: list[Any]
    group: Any
    sites: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    epoch: int = 0
    networks: dict[int, Any] = field(default_factory=dict)
    origin: str = ""
    nodes: set[str] = field(default_factory=set)
    pids: list[int] = field(default_factory=list)
    lines: Lines | None = None
    why_none: str = ""
    _is_barred: bool = False
    _addresses: list[Address | None] = field(default_factory=list)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @classmethod
    def enlist(cls, ray: Any, count: int, berth: Berth) -> Crew:
        """Place ``count`` shards and wait until they answer.

        Raises:
            PoolError: if there is no room for them within the time-out; says what is there.
            ConfigError: if their versions are not those of this process.
        """
        group = _placement(ray, count, berth)
        crew = cls(ray, berth, [None] * count, group, origin=ray.get_runtime_context().get_node_id())
        try:
            crew.replace(range(count))
        except BaseException:
            crew.dismiss()
            raise
        return crew

    def __len__(self) -> int:
        return len(self.shards)

    @property
    def is_alive(self) -> bool:
        """Whether Ray is still the one that the shards were made in, and all of them answer."""
        return self._is_present and all(self.answers(PROBE_SECONDS))

    @property
    def _is_present(self) -> bool:
        """Whether this process has not left the Ray of the shards: they end with it, if it was its own."""
        return self.ray.is_initialized() and self.ray.get_runtime_context().get_node_id() == self.origin

    def replace(self, numbers: Any) -> None:
        """Make shards of these numbers anew."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._is_barred = False
        rest = {name: v for name, v in self.berth.resources.items() if name not in ("CPU", "GPU")}
        for number in numbers:
            place = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=number)
            self.shards[number] = (
                self.ray.remote(Shard)
                .options(
                    num_cpus=self.berth.resources.get("CPU", 0),
                    num_gpus=self.berth.resources.get("GPU", 0),
                    resources=rest,
                    max_restarts=0,
                    max_task_retries=0,
                    scheduling_strategy=place,
                )
                .remote(number, self.berth.threads, self._key)
            )
        refs = [shard.facts.remote() for shard in self.shards]
        try:
            facts = self.ray.get(refs, timeout=self.berth.timeout)
        except self.ray.exceptions.GetTimeoutError as error:
            raise PoolError(
                f"shards did not start within {self.berth.timeout:g} s; {free_resources(self.ray)}"
            ) from error
        except self.ray.exceptions.RayError as error:
            raise PoolError(f"a shard did not start: {error}") from error
        _check_versions(facts)
        nodes = {node: i for i, node in enumerate(dict.fromkeys(fact["node"] for fact in facts))}
        self.sites = np.array([nodes[fact["node"]] for fact in facts])
        self.nodes = set(nodes)
        self.pids = [fact["pid"] for fact in facts]
        self._addresses = [fact["line"] for fact in facts]

    def connect(self) -> None:
        """Have new lines to all shards; what was under way on others is lost."""
        self.hang_up()
        if self._is_barred:
            return
        self.why_none = ""
        if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
            self.why_none = "RAY_USE_TLS is set, and they are not encrypted"
            return
        try:
            self.lines = Lines.connect(self._addresses, self._key)
        except OSError as error:
            self.why_none = str(error) or type(error).__name__
            self._is_barred = isinstance(error, TimeoutError)  # which every run would wait for again

    def hang_up(self) -> None:
        """End the lines."""
        if self.lines is not None:
            self.lines.close()
        self.lines = None

    def answers(self, seconds: float) -> list[bool]:
        """Which shards answer within some time."""
        refs = [shard.facts.remote() for shard in self.shards]
        self.ray.wait(refs, num_returns=len(refs), timeout=seconds)
        return [self._is_fine(ref) for ref in refs]

    def _is_fine(self, ref: Any) -> bool:
        try:
            self.ray.get(ref, timeout=0)
        except Exception:  # dead, cut off, or busy: none of them answers
            return False
        return True

    def kill(self, numbers: Any) -> None:
        """End the processes of these shards, whatever they are doing."""
        for number in numbers:
            if self.shards[number] is not None:
                self.ray.kill(self.shards[number], no_restart=True)

    def dismiss(self) -> None:
        """End all processes and give their places back."""
        self.hang_up()
        if not self._is_present:
            return
        self.kill(range(len(self)))
        self.ray.util.remove_placement_group(self.group)


def _placement(ray: Any, count: int, berth: Berth) -> Any:
    bundle = {name: amount for name, amount in berth.resources.items() if amount}
    _check_resources(ray, count, bundle)
    group = ray.util.placement_group([dict(bundle or {"CPU": 0.001})] * count, strategy="PACK")
    if not group.wait(berth.timeout):
        ray.util.remove_placement_group(group)
        raise PoolError(
            f"no room for {count} shards of {_words(bundle)} within {berth.timeout:g} s; "
            f"{free_resources(ray)}; wait for the others, or ask for fewer shards"
        )
    return group


def _check_resources(ray: Any, count: int, bundle: Mapping[str, float]) -> None:
    """Raise at once where a Ray of one's own could never hold the shards; a cluster may grow."""
    if not is_own():
        return
    total = ray.cluster_resources()
    for name, amount in bundle.items():
        if total.get(name, 0) < amount * count:
            raise ConfigError(
                f"pool.shards={count} need {amount * count:g} {name}, and this machine has "
                f"{total.get(name, 0):g} in all; ask for fewer shards"
            )


def free_resources(ray: Any) -> str:
    """What every machine has to offer, in words."""
    from ray._private.state import available_resources_per_node

    total = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    free = available_resources_per_node()
    lines = []
    for name, node in total.items():
        here = free.get(name, {})
        shown = {k: v for k, v in node["Resources"].items() if k in ("CPU", "GPU") or _is_own_resource(k)}
        parts = [f"{here.get(k, 0):g} of {v:g} {k}" for k, v in sorted(shown.items())]
        lines.append(f"{node['NodeManagerAddress']}: {', '.join(parts)}")
    return "free are " + ("; ".join(lines) or "no machines at all")


def _is_own_resource(name: str) -> bool:
    return not any(part in name for part in ("node:", "memory", "_group_", "bundle", "accelerator_type"))


def _words(bundle: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in bundle.items()) or "nothing"


def _check_versions(facts: list[dict[str, Any]]) -> None:
    """Raise where programs differ: equal bits, and messages that both sides can read, need equal versions."""
    mine = versions()
    for fact in facts:
        different = [
            f"{name} {version} there and {mine[name]} here"
            for name, version in fact["versions"].items()
            if version != mine[name]
        ]
        if different:
            raise ConfigError(
                f"the shard on {fact['host']} has {', '.join(different)}; install the same everywhere"
            )
