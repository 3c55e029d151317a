"""Rewards in processes of their own on a cluster: other resources and environments, batches in parallel."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError, PoolError, unknown_name
from itscale.pools.session import LOCAL, LOOK_SECONDS, check_head, connect, load_ray
from itscale.scoring import Cached, Reward, RewardSpec, Scores, as_reward
from itscale.scoring.facts import take_facts, take_samples

IN_FLIGHT = 2  # batches a worker, so that it has the next one when it is done


@dataclass(frozen=True, kw_only=True)
class RewardBerth:
    """What a reward's workers get, and how long they may take.

    Attributes:
        workers: processes that score.
        cpus, gpus: of each, fractions allowed.
        resources: of each, by names of one's own that machines offer.
        batch_size: most samples of a batch; None is the reward's own limit, or 16.
        timeout: seconds for a batch, after which its worker is ended.
        start_timeout: seconds to wait for room and for loading.
        attempts: deaths of workers that one sample may cause; then it is invalid, and the others go on.
        cache: scores to remember, for deterministic rewards; 0 is none.
        address: as for ``Ray``.
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    batch_size: int | None = None
    timeout: float = 600.0
    start_timeout: float = 300.0
    attempts: int = 3
    cache: int = 0
    address: str = LOCAL

    def __post_init__(self) -> None:
        for name in ("workers", "attempts", *(["batch_size"] if self.batch_size is not None else [])):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"pooled reward: {name} must be a whole number >= 1, got {value!r}")
        for name in ("timeout", "start_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"pooled reward: {name} must be seconds > 0, got {getattr(self, name)!r}")


def pooled(reward: Any, **berth: Any) -> Reward:
    """Score by workers of a Ray cluster, in parallel and apart from the particles.

    A worker that dies or hangs is replaced and its batch is scored again; a batch that ends several is
    scored sample by sample, until the one that does it is known: it is invalid, with the reason. Batches
    wait in the caller while every worker has two. For another environment give the reward ``isolated``:
    ``pooled({"name": "isolated", "python": ..., "target": ...}, workers=2)``.

    Args:
        reward: whatever ``as_reward`` takes. It is loaded by the workers at their first batch.
        berth: fields of ``RewardBerth``.

    Returns:
        A reward without a gradient.

    Raises:
        ConfigError: for settings that cannot be.
        MissingExtra: if Ray is not installed.
        PoolError: if there is no room in time.

    Example:
        >>> judged = pooled("digit-judge", workers=2, gpus=0.5)  # doctest: +SKIP
    """
    load_ray()
    known = [field.name for field in dataclasses.fields(RewardBerth)]
    for name in berth:
        if name not in known:
            raise unknown_name("argument of reward 'pooled':", name, known)
    leaf = RewardPool(as_reward(reward), RewardBerth(**berth))
    made = Reward(leaf.spec, leaf=leaf)
    if leaf.berth.cache:
        cached = Cached(made, leaf.berth.cache)
        return Reward(cached.spec, leaf=cached)
    return made


_by_settings: dict[str, Reward] = {}


class Pooled:
    """``pooled`` by name, for configurations: ``{name: pooled, reward: digit-judge, workers: 2}``.

    Equal settings share their workers, so that the cells of a sweep do.
    """

    def __new__(cls, reward: Any, **berth: Any) -> Reward:
        try:
            settings = json.dumps([reward, berth], sort_keys=True)
        except TypeError:  # an object, which may be a function of one's own
            return pooled(reward, **berth)
        if settings not in _by_settings:
            _by_settings[settings] = pooled(reward, **berth)
        return _by_settings[settings]


class RewardWorker:
    """A process that scores; made into a Ray actor."""

    def __init__(self, reward: Reward, threads: int) -> None:
        torch.set_num_threads(threads)
        self.reward = reward

    def ready(self) -> bool:
        """Answer."""
        return True

    def score(self, samples: Any, facts: dict[str, Any]) -> Scores:
        """Score a batch where it lies; scores come back on the host."""
        samples = torch.from_numpy(samples.copy()) if hasattr(samples, "dtype") else samples
        done = self.reward.score_prepared(samples, facts, None)
        parts = {name: part.cpu() for name, part in done.parts.items()}
        return dataclasses.replace(done, values=done.values.cpu(), valid=done.valid.cpu(), parts=parts)


@dataclass
class _Batch:
    """Samples that are scored together, and how many workers they have ended."""

    index: list[int]
    deaths: int = 0


class RewardPool:
    """One reward in several workers, seen by the engine as a reward like any other.

    Attributes:
        deaths: workers that died or were given up.
    """

    def __init__(self, reward: Reward, berth: RewardBerth) -> None:
        self.inner = reward
        self.berth = berth
        self.deaths = 0
        self._actors: list[Any] = []
        self._cluster = ""

    @property
    def spec(self) -> RewardSpec:
        """The facts of the reward, without its gradient, which does not cross processes."""
        return dataclasses.replace(self.inner.spec, differentiable=False)

    @property
    def label(self) -> str:
        """The name of the reward."""
        return self.inner.name

    @property
    def wanted(self) -> tuple[str, ...]:
        """The facts that the scores may depend on."""
        return self.inner.wanted

    def raw(self, samples: Any, facts: Mapping[str, Any]) -> Tensor:
        """Refuse: gradients never cross a process."""
        raise ConfigError(
            f"reward {self.label!r} is computed in other processes, which have no gradient here"
        )

    def __reduce__(self) -> Any:
        """With its workers, so that shards share them."""
        self.start()
        return _revived, (self.inner, self.berth, self._actors, self._cluster)

    def start(self) -> None:
        """Place the workers, unless they are there; those of a Ray that has ended are not."""
        b = self.berth
        needed = {"cpus": int(-(-b.cpus * b.workers // 1)), "gpus": b.gpus * b.workers}
        own = {name: amount * b.workers for name, amount in b.resources.items()}
        ray = connect(b.address, object_store=200 * 2**20, resources=own, **needed)
        cluster = ray.get_runtime_context().gcs_address
        if self._actors and cluster == self._cluster:
            return
        self._cluster = cluster
        self._actors = [self._made(ray) for _ in range(b.workers)]
        try:
            ray.get([actor.ready.remote() for actor in self._actors], timeout=b.start_timeout)
        except ray.exceptions.GetTimeoutError as error:
            from itscale.pools.crew import free_resources

            self.close()
            raise PoolError(
                f"no room for {b.workers} workers of reward {self.label!r} with {b.cpus:g} CPU, {b.gpus:g} "
                f"GPU each within {b.start_timeout:g} s; {free_resources(ray)}"
            ) from error
        except ray.exceptions.RayError as error:
            self.close()
            raise PoolError(f"workers of reward {self.label!r} did not start: {error}") from error

    def _made(self, ray: Any) -> Any:
        b = self.berth
        kind = ray.remote(RewardWorker).options(
            num_cpus=b.cpus,
            num_gpus=b.gpus,
            resources=dict(b.resources),
            max_restarts=0,
            max_task_retries=0,
        )
        return kind.remote(self.inner, max(1, int(b.cpus)))

    def replace(self, worker: int) -> None:
        """End a worker, whatever it does, and make another in its place, which is ready then."""
        ray = load_ray()
        self.deaths += 1
        ray.kill(self._actors[worker], no_restart=True)
        self._actors[worker] = self._made(ray)
        try:
            ray.get(self._actors[worker].ready.remote(), timeout=self.berth.start_timeout)
        except ray.exceptions.RayError as error:
            raise PoolError(f"a worker of reward {self.label!r} could not be replaced: {error}") from error

    def close(self) -> None:
        """End the workers."""
        import ray

        if ray.is_initialized():
            for actor in self._actors:
                ray.kill(actor, no_restart=True)
        self._actors = []

    def score(self, samples: Any, facts: Mapping[str, Any], batch_size: int | None) -> Scores:
        """Score samples in batches, wherever a worker is free; scores are in the order of the samples."""
        self.start()
        size = batch_size or self.berth.batch_size or self.inner.spec.batch_size or 16
        every = list(range(len(samples)))
        waiting = deque(_Batch(every[i : i + size]) for i in range(0, len(every), size))
        host = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
        found = _Run(self, waiting, host, facts).finish()
        device = samples.device if isinstance(samples, Tensor) else torch.device("cpu")
        return _assembled(found, len(every), device)


class _Run:
    """One call: batches that wait, batches under way, scores that have come."""

    def __init__(
        self, pool: RewardPool, waiting: deque[_Batch], samples: Any, facts: Mapping[str, Any]
    ) -> None:
        import ray

        self.ray, self.pool, self.waiting = ray, pool, waiting
        self.samples, self.facts = samples, facts
        self.load = [0] * len(pool._actors)
        self.under_way: dict[Any, tuple[_Batch, int, float]] = {}
        self.found: dict[int, tuple[Scores, int] | str] = {}

    def finish(self) -> dict[int, tuple[Scores, int] | str]:
        """Return a score, or why there is none, for every sample."""
        while self.waiting or self.under_way:
            self._submit()
            patience = self._patience()
            ready, _ = self.ray.wait(list(self.under_way), timeout=min(LOOK_SECONDS, patience))
            if ready:
                self._take(ready[0])
            elif patience <= LOOK_SECONDS:
                self._give_up()
            check_head()
        return self.found

    def _submit(self) -> None:
        while self.waiting:
            worker = min(range(len(self.load)), key=self.load.__getitem__)
            suspect = any(batch.deaths for batch, *_ in self.under_way.values()) or self.waiting[0].deaths
            if self.load[worker] >= (1 if suspect else IN_FLIGHT):
                return  # a batch that ended a worker runs alone on its next one
            batch = self.waiting.popleft()
            samples = take_samples(self.samples, batch.index)
            facts = take_facts(self.facts, batch.index)
            ref = self.pool._actors[worker].score.remote(samples, facts)
            self.under_way[ref] = (batch, worker, time.monotonic())
            self.load[worker] += 1

    def _patience(self) -> float:
        oldest = min(started for *_, started in self.under_way.values())
        return max(0.0, oldest + self.pool.berth.timeout - time.monotonic())

    def _take(self, ref: Any) -> None:
        batch, worker, _ = self.under_way[ref]
        errors = self.ray.exceptions
        try:
            scores = self.ray.get(ref)
        except errors.RayTaskError as error:
            raise error.as_instanceof_cause() from error
        except errors.RayError as error:
            self._lost(worker, type(error).__name__)
            return
        del self.under_way[ref]
        self.load[worker] -= 1
        for other, (waited, where, _) in self.under_way.items():
            if where == worker:  # its turn begins now
                self.under_way[other] = (waited, where, time.monotonic())
        for position, index in enumerate(batch.index):
            self.found[index] = (scores, position)

    def _give_up(self) -> None:
        """End the worker of the batch that has taken too long."""
        oldest = min(self.under_way, key=lambda ref: self.under_way[ref][2])
        self._lost(self.under_way[oldest][1], f"no answer within {self.pool.berth.timeout:g} s")

    def _lost(self, worker: int, why: str) -> None:
        """Replace a worker; of its batches the first was being scored, and the others only waited."""
        self.pool.replace(worker)
        refs = [ref for ref, (_, w, _) in self.under_way.items() if w == worker]
        first, *others = (self.under_way.pop(ref)[0] for ref in refs)
        self.load[worker] = 0
        self.waiting.extendleft(others)
        self._blame(first, why)

    def _blame(self, batch: _Batch, why: str) -> None:
        deaths = batch.deaths + 1
        if len(batch.index) > 1 and deaths > 1:  # one by one, from the start
            self.waiting.extend(_Batch([i], 1) for i in batch.index)
        elif len(batch.index) == 1 and deaths >= self.pool.berth.attempts:
            self.found[batch.index[0]] = f"its worker was lost {deaths} times: {why}"
        else:
            self.waiting.append(_Batch(batch.index, deaths))


def _assembled(found: dict[int, tuple[Scores, int] | str], count: int, device: torch.device) -> Scores:
    values = torch.full((count,), float("nan"))
    valid = torch.zeros(count, dtype=torch.bool)
    parts: dict[str, Tensor] = {}
    reasons = [""] * count
    calls, seen = 0, set()
    for index, score in found.items():
        if isinstance(score, str):
            reasons[index] = score
            continue
        scores, i = score
        if id(scores) not in seen:
            seen.add(id(scores))
            calls += scores.calls
        if scores.values.dtype == torch.float64:
            values = values.double()
        values[index], valid[index] = scores.values[i], scores.valid[i]
        for name, part in scores.parts.items():
            parts.setdefault(name, torch.full((count,), float("nan"), dtype=part.dtype))[index] = part[i]
        if scores.reasons is not None:
            reasons[index] = scores.reasons[i]
    return Scores.of(
        values.to(device),
        valid=valid,
        parts={name: part.to(device) for name, part in parts.items()},
        reasons=reasons if any(reasons) else None,
        calls=calls,
    )


def _revived(inner: Reward, berth: RewardBerth, actors: list[Any], cluster: str) -> RewardPool:
    pool = RewardPool(inner, berth)
    pool._actors, pool._cluster = actors, cluster
    return pool
