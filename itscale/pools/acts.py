"""What shards were asked to do since the last snapshot, so that it can be done again after a loss."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from itscale.errors import PoolError
from itscale.pools import wire
from itscale.pools.crew import PROBE_SECONDS, Crew
from itscale.pools.lines import Cut
from itscale.pools.metrics import Metrics
from itscale.pools.session import LOOK_SECONDS, check_head
from itscale.pools.shard import Answer, Name

if TYPE_CHECKING:
    from itscale.pools.ray_pool import Ray

SAME_FAILURES = 3  # at one act, after which it is not the machine's fault
SLOWEST = 5.0
BRIEF = 2**20
"""Bytes of a shard's commands up to which they go over its line; longer ones go through shared memory."""


@dataclass
class Errand:
    """One shard's part of an act.

    Attributes:
        commands: for ``Shard.act``; None is an export.
        blocks: of these errands of the same act, which come before; what they return is handed over.
        name, index: rows to export.
    """

    shard: int
    commands: tuple[bytes, ...] | None
    blocks: tuple[int, ...] = ()
    name: Name | None = None
    index: np.ndarray | None = None


@dataclass
class Act:
    """What several shards do together.

    Attributes:
        verbs: one of every command.
        errands: exports come first, so that rows are copied out before anything can change them.
        dropped: populations that nobody has any more.
        is_bulky: whether rows themselves come back.
    """

    verbs: tuple[str, ...]
    errands: list[Errand]
    dropped: tuple[Name, ...] = ()
    is_bulky: bool = False

    @property
    def answering(self) -> list[Errand]:
        return [errand for errand in self.errands if errand.commands is not None]

    @property
    def name(self) -> str:
        """Its verbs, in one word."""
        return "+".join(self.verbs)

    @property
    def is_brief(self) -> bool:
        """Whether a few bytes go either way, and none from shard to shard."""
        return not self.is_bulky and all(
            errand.commands is not None and not errand.blocks and sum(map(len, errand.commands)) <= BRIEF
            for errand in self.errands
        )


class Lost(Exception):
    """Shards that died or did not answer."""


@dataclass
class Log:
    """Submits acts, waits for them, and repeats those since the last snapshot when a shard is lost.

    Rows go through Ray, from shard to shard; calls of one driver to one shard run in the order in which they
    were submitted, so that acts whose answers nobody needs are not waited for. What is brief goes over lines,
    after all of these.

    Attributes:
        factory: the worker's factory as a message, the names of the networks in it, references to these.
        where: microbatch, bitwise, device.
        acts: since the snapshot.
        folder: of the snapshot.
    """

    crew: Crew
    pool: Ray
    factory: tuple[bytes, list[str], list[Any]]
    where: dict[str, Any]
    metrics: Metrics
    acts: list[Act] = field(default_factory=list)
    folder: str | None = None
    _numbers: list[int] = field(default_factory=list)
    _pending: list[tuple[Act, list[Any]]] = field(default_factory=list)
    _slowest: dict[str, float] = field(default_factory=dict)
    _failures: int = 0
    _probes: dict[int, Any] = field(default_factory=dict)

    def build(self) -> None:
        """Make a worker in every shard, with the rows of the last snapshot."""
        self.crew.epoch += 1
        data, keys, refs = self.factory
        self._numbers = [0] * len(self.crew)
        started = [
            shard.build.remote(self.crew.epoch, data, self.where, self.folder, keys, *refs)
            for shard in self.crew.shards
        ]
        self._get(started, self.pool.start_timeout)
        self._probes.clear()
        self.crew.connect()
        self.metrics.no_lines = self.crew.why_none

    def perform(self, act: Act, wait: bool) -> list[Answer]:
        """Do an act; with ``wait`` return the answers.

        Raises:
            PoolError: if shards are lost again and again.
        """
        failures = 0
        while True:
            try:
                refs = None if act.is_brief and self.crew.lines is not None else self._submit(act)
                if refs is not None and not wait:
                    self.acts.append(act)
                    self._pending.append((act, refs))
                    return []
                self._settle()
                answers = self._wait(act, refs)
                self.acts.append(act)
                return answers
            except Lost as lost:
                failures += 1
                self._recover(lost, act, failures)

    def settle(self) -> None:
        """Wait for what was not waited for."""
        failures = 0
        while True:
            try:
                self._settle()
                return
            except Lost as lost:
                failures += 1
                self._recover(lost, None, failures)

    def commit(self, folder: str) -> None:
        """Go on from a snapshot that all shards have written."""
        before, self.folder = self.folder, folder
        self.acts.clear()
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    def _submit(self, act: Act) -> list[Any]:
        refs: list[Any] = []
        for errand in act.errands:
            actor = self.crew.shards[errand.shard]
            if errand.commands is None:
                number = self._next(errand.shard)
                refs.append(actor.export.remote(self.crew.epoch, number, errand.name, errand.index))
            else:
                blocks = [refs[i] for i in errand.blocks]
                refs.append(actor.act.remote(self._message(act, errand), *blocks))
        return [ref for ref, errand in zip(refs, act.errands, strict=True) if errand.commands is not None]

    def _next(self, shard: int) -> int:
        self._numbers[shard] += 1
        return self._numbers[shard]

    def _message(self, act: Act, errand: Errand) -> bytes:
        return wire.dumps((self.crew.epoch, self._next(errand.shard), errand.commands, act.dropped))

    def _over_lines(self, act: Act, deadline: float) -> list[bytes]:
        """Answers to a brief act."""
        assert self.crew.lines is not None
        messages = {errand.shard: self._message(act, errand) for errand in act.errands}
        try:
            return self.crew.lines.ask(messages, deadline, self._look)
        except Cut as cut:
            self._get([self.crew.shards[cut.shard].facts.remote()], LOOK_SECONDS)  # it may say why
            raise Lost(str(cut)) from cut
        except TimeoutError as error:
            raise _late(deadline) from error

    def _look(self, shards: Collection[int]) -> None:
        """See whether the head is there, and whether Ray has heard that one of these shards is not."""
        check_head()
        for shard in shards:
            self._probes.setdefault(shard, self.crew.shards[shard].facts.remote())
        probes = {ref: shard for shard, ref in self._probes.items()}
        ready, _ = self.crew.ray.wait(list(probes), num_returns=len(probes), timeout=0)
        for ref in ready:
            del self._probes[probes[ref]]
        self._get(ready, LOOK_SECONDS)

    def _settle(self) -> None:
        while self._pending:
            act, refs = self._pending[0]
            for answer in self._wait(act, refs):
                self.metrics.received(answer.received)
                if answer.error is not None:
                    raise answer.error[0]
            self._pending.pop(0)

    def _wait(self, act: Act, refs: list[Any] | None) -> list[Answer]:
        """Answers to an act that was submitted to Ray, or that goes over lines."""
        deadline = self._deadline(act.verbs)
        started = time.perf_counter()
        found = self._over_lines(act, deadline) if refs is None else self._get(refs, deadline)
        answers = [wire.loads(data) for data in found]
        failed = next((answer for answer in answers if isinstance(answer, Exception)), None)
        if failed is not None:
            raise failed
        took = time.perf_counter() - started
        for verb in act.verbs:
            self._slowest[verb] = max(took, self._slowest.get(verb, 0.0))
        return answers

    def _deadline(self, verbs: Sequence[str]) -> float:
        if any(verb not in self._slowest for verb in verbs):
            return max(self.pool.first_deadline, self.pool.deadline)
        return max(self.pool.deadline, SLOWEST * max(self._slowest[verb] for verb in verbs))

    def _get(self, refs: list[Any], deadline: float) -> list[Any]:
        ray = self.crew.ray
        errors = ray.exceptions
        end = time.monotonic() + deadline
        try:
            while True:
                try:
                    return ray.get(refs, timeout=max(0.0, min(LOOK_SECONDS, end - time.monotonic())))
                except errors.GetTimeoutError as error:
                    if time.monotonic() >= end:
                        raise _late(deadline) from error
                    check_head()
        except (
            errors.RayActorError,
            errors.ObjectLostError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
        ) as error:
            raise Lost(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
        except errors.RayTaskError as error:
            cause = error.as_instanceof_cause()
            if isinstance(cause, errors.RayActorError | errors.ObjectLostError):
                raise Lost(str(cause).splitlines()[0]) from error
            if isinstance(cause, errors.ObjectStoreFullError | errors.OutOfDiskError):
                raise PoolError(
                    f"Ray has no room for what shards exchange: {str(cause).splitlines()[0]}; raise "
                    "pool.object_store, or free the disk of its temporary folder"
                ) from error
            raise cause from error

    def _recover(self, lost: Lost, act: Act | None, failures: int) -> None:
        """Bring all shards back to where they were before ``act``."""
        verb = "an earlier call" if act is None else act.name
        while True:
            self.metrics.recovered(str(lost))
            if failures >= SAME_FAILURES:
                raise PoolError(
                    f"shards were lost {failures} times in a row at the same call, {verb!r}: {lost}; it is "
                    "probably what they compute that ends them, such as memory: lower pool.microbatch"
                ) from lost
            if self.metrics.recoveries > self.pool.max_recoveries:
                raise PoolError(
                    f"shards were lost {self.metrics.recoveries} times, more than pool.max_recoveries="
                    f"{self.pool.max_recoveries}: {lost}"
                ) from lost
            time.sleep(min(10.0, 0.05 * 2**self.metrics.recoveries))
            try:
                self._rebuild()
                return
            except Lost as again:
                lost, failures = again, failures + 1

    def _rebuild(self) -> None:
        self._pending.clear()
        gone = [i for i, alive in enumerate(self.crew.answers(PROBE_SECONDS)) if not alive]
        self.crew.kill(gone)
        self.crew.replace(gone)
        self.build()
        for act in self.acts:
            self._pending.append((act, self._submit(act)))
        self.metrics.repeated(len(self.acts))
        self._replayed()

    def _replayed(self) -> None:
        """Wait for the repeated acts; what went wrong in one then was reported then."""
        for act, refs in self._pending:
            self._wait(act, refs)
        self._pending.clear()


def _late(deadline: float) -> Lost:
    return Lost(f"a shard did not answer within {deadline:g} s")
