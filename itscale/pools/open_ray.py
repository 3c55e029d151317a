"""The driver's side of a sharded pool: cut verbs up, move rows, put answers together, survive losses."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from itscale.errors import PoolError
from itscale.pools import wire
from itscale.pools.acts import Act, Errand, Log
from itscale.pools.base import Held, only_rows
from itscale.pools.crew import Berth, Crew
from itscale.pools.exported import Exported
from itscale.pools.metrics import Metrics
from itscale.pools.networks import with_networks
from itscale.pools.placement import contiguous, place_children, position_in_shard
from itscale.pools.private_folder import PrivateFolder
from itscale.pools.ray_rows import Known, RayRows
from itscale.pools.session import connect
from itscale.pools.shard import Adopt, Answer, Arrange, Call, Fetch, Join, Name, Save, Stowed, size_of_rows
from itscale.pools.spreading import Layout, cut, handles, merge

if TYPE_CHECKING:
    from itscale.pools.ray_pool import Ray

NAMES: wire.Names = {RayRows: lambda rows: rows.name}
_idle: list[tuple[tuple[Any, ...], Crew]] = []


@dataclass(frozen=True)
class Asked:
    """A verb, cut up among shards.

    Attributes:
        name: of the first rows that it makes.
        commands: for every shard of the layout that holds rows.
        given: handles that it was called with.
        promised: the handle to its rows, where it was put off; nobody may want it any more.
    """

    verb: str
    name: Name
    layout: Layout
    commands: dict[int, bytes]
    given: Sequence[tuple[RayRows, bool]] = ()
    promised: weakref.ref[RayRows] | None = None


class OpenRay:
    """Workers in the shards of a crew."""

    def __init__(self, pool: Ray, factory: Callable[..., Any]) -> None:
        gpus = pool.local_gpus
        count, bundle, threads = pool.shares(gpus)
        total = {name: amount * count for name, amount in pool.resources.items()}
        ray = connect(
            pool.address,
            cpus=int(np.ceil(pool.cpus * count)),
            gpus=gpus,
            object_store=pool.object_store,
            resources=total,
        )
        if pool.address != "local":
            count, bundle, threads = pool.shares(ray.cluster_resources().get("GPU", 0))
        self.pool = pool
        self.key = (pool.address, count, tuple(sorted(bundle.items())), threads)
        self.crew = _enlist(ray, self.key, count, Berth(bundle, threads, pool.start_timeout))
        self.dropped: list[Name] = []
        self.metrics = Metrics(count, ray.cluster_resources().get("object_store_memory", 0.0))
        self.warnings: list[str] = []
        self._exported = Exported() if pool.prometheus else None
        self._acts = 0
        self._counters: list[dict[str, int]] = [{}] * count
        where = {"microbatch": pool.microbatch, "bitwise": pool.bitwise, "device": pool.device}
        self._log = Log(self.crew, pool, with_networks(self.crew, factory), where, self.metrics)
        self._folder = _snapshot_folder(pool, self.crew)
        self._since = 0
        self._put_off: list[Asked] = []
        self._finalizer = weakref.finalize(self, _put_back, self.key, self.crew, self._folder)
        self._log.build()

    @property
    def shards(self) -> int:
        return len(self.crew)

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Run a verb wherever its rows are, after what was put off; one message to every shard for all."""
        asked = self._ask(verb, args, kwargs)
        results = [answer.results[-1] for answer in self._send_all(asked)]
        return merge(results, asked.layout, lambda found: self._stowed(found, asked), Stowed)

    def later(self, verb: str, *args: Any, is_look: bool = False, **kwargs: Any) -> RayRows:
        """Put a verb off until an answer is needed; how its rows will lie is known.

        No driver runs ahead of its shards by more than a step: `since_last`, at its end, waits for them.
        """
        asked = self._ask(verb, args, kwargs)
        layout = asked.layout.per_row(_length((*args, *kwargs.values())))
        promised = RayRows(self, asked.name, layout, None, is_look)
        self._put_off.append(replace(asked, given=(), promised=weakref.ref(promised)))
        return promised

    def flush(self) -> None:
        """Do what was put off, and wait for it."""
        if self._put_off:
            self._send_all(None)

    def _ask(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked:
        """Cut a verb up; the rows that it needs elsewhere are brought there.

        What was put off is for the same shards, or done before.
        """
        self._snapshot_if_due()
        given = [pair for value in (*args, *kwargs.values()) for pair in handles(value)]
        layout = next((rows.layout for rows, is_whole in given if not is_whole), None)
        if layout is None:
            layout = Layout(contiguous(_length((*args, *kwargs.values())), self.shards), self.shards)
        place = {False: lambda rows: self._beside(rows, layout), True: self._everywhere}
        stand_ins = {(id(rows), is_whole): place[is_whole](rows) for rows, is_whole in given}

        def stand_in(rows: RayRows, is_whole: bool) -> RayRows:
            return stand_ins[id(rows), is_whole]

        number = self._next()
        commands = {}
        for shard in layout.active:
            mine = tuple(cut(value, layout, shard, stand_in) for value in args)
            named = {name: cut(value, layout, shard, stand_in) for name, value in kwargs.items()}
            commands[shard] = wire.dumps(Call(number, verb, mine, named), NAMES)
        if self._put_off and self._put_off[0].layout.active != layout.active:
            self.flush()
        return Asked(verb, (number, 0), layout, commands, given)

    def _send_all(self, asked: Asked | None) -> list[Answer]:
        """Send what was put off, and a verb after it; wait for answers."""
        together, self._put_off = [*self._put_off, *([asked] if asked else [])], []
        errands = [
            Errand(shard, tuple(part.commands[shard] for part in together))
            for shard in together[0].layout.active
        ]
        answers = self._send(Act(tuple(part.verb for part in together), errands))
        for i, part in enumerate(together):
            promised = None if part.promised is None else part.promised()
            if promised is not None:
                stowed = [_only_stowed(answer.results[i], part.verb) for answer in answers]
                promised.made(_known([s for s in stowed if s is not None]))
        return answers

    def take(self, rows: RayRows, index: np.ndarray) -> RayRows:
        """Gather rows into a new population; as few as possible change their shard."""
        if len(index) == len(rows) and np.array_equal(index, np.arange(len(rows))):
            return rows
        home = rows.layout.owner[index]
        owner = place_children(home, index, self.shards, self.crew.sites)
        self.metrics.moved(int((owner != home).sum()), len(index))
        return self._arrange(rows, index, Layout(owner, self.shards))

    def join(self, parts: list[RayRows]) -> RayRows:
        """Put rows after one another, where they are."""
        owner = np.concatenate([part.layout.owner for part in parts])
        layout = Layout(owner, self.shards)
        present = [part.known.present for part in parts]
        names = tuple(n for n in present[0] if all(n in other for other in present))
        number = self._next()
        name, errands = (number, 0), []
        for shard in layout.active:
            here: tuple[Any, ...] = tuple(part for part in parts if len(part.layout.slots[shard]))
            errands.append(self._errand(shard, Join(name, here or tuple[Any, ...](parts), names)))
        self._perform(Act(("join",), errands), wait=False)
        kept = tuple({**dict.fromkeys(names), "history": None, "x": None})
        return RayRows(self, name, layout, Known(kept, max(part.known.size for part in parts)))

    def adopt(self, rows: Held) -> RayRows:
        """Share rows out among the shards."""
        layout = Layout(contiguous(len(rows), self.shards), self.shards)
        number = self._next()
        name = (number, 0)
        errands = [
            self._errand(shard, Adopt(name, rows.take(layout.index[shard]))) for shard in layout.active
        ]
        self._perform(Act(("adopt",), errands, is_bulky=True))
        size = size_of_rows(rows) // max(1, len(rows))
        return RayRows(self, name, layout, Known(rows.present, size))

    def home(self, rows: Any) -> Any:
        """Return rows themselves, in order, on the host."""
        errands = [self._errand(shard, Fetch(rows)) for shard in rows.layout.active]
        parts = [answer.results[0] for answer in self._perform(Act(("home",), errands, is_bulky=True))]
        whole = type(parts[0]).reunite(parts)
        order = np.concatenate([rows.layout.slots[shard] for shard in rows.layout.active])
        return whole.take(torch.from_numpy(np.argsort(order)))

    def counters(self) -> dict[str, int]:
        """Sums over shards."""
        self.flush()
        self._log.settle()
        found: dict[str, int] = {"padding_rows": 0, "network_calls": 0}
        for counters in self._counters:
            for name, count in counters.items():
                found[name] = found.get(name, 0) + count
        return found

    def since_last(self) -> dict[str, Any]:
        """What the step cost and moved, and losses in it; also told to Prometheus, if that was asked for."""
        self.flush()
        facts = self.metrics.since_last()
        if self._exported is not None:
            self._exported.tell(facts)
        return facts

    def report(self) -> tuple[dict[str, Any], list[str]]:
        """Figures of the run, and warnings."""
        return {"pool": self.metrics.summary()}, [*dict.fromkeys([*self.warnings, *self.metrics.warnings()])]

    def close(self) -> None:
        """Leave the shards to the next run."""
        self._finalizer()

    def _next(self) -> int:
        self._acts += 1
        return self._acts

    def _errand(self, shard: int, command: Any) -> Errand:
        return Errand(shard, (wire.dumps(command, NAMES),))

    def _perform(self, act: Act, wait: bool = True) -> list[Answer]:
        """Do an act, after what was put off."""
        self.flush()
        return self._send(act, wait)

    def _send(self, act: Act, wait: bool = True) -> list[Answer]:
        dropped = tuple(self.dropped)
        del self.dropped[: len(dropped)]
        act.dropped = dropped
        started = time.perf_counter()
        answers = self._log.perform(act, wait)
        for errand, answer in zip(act.answering, answers, strict=False):
            self._counters[errand.shard] = answer.counters
            self.warnings += answer.notes
        self.metrics.acted(act.name, time.perf_counter() - started, answers)
        failed = next((answer.error for answer in answers if answer.error is not None), None)
        if failed is not None:
            raise failed[0]
        self._since += len(act.verbs)
        return answers

    def _stowed(self, found: Sequence[Stowed | None], asked: Asked) -> RayRows:
        """The handle to rows that a verb has made, or to those that it was given."""
        stowed = [entry for entry in found if entry is not None]
        same = {entry.same for entry in stowed}
        for rows, _ in asked.given:
            if same == {rows.name}:
                self.dropped.append(stowed[0].name)
                return rows
        layout = asked.layout
        per_row = stowed[0].length // max(1, len(layout.slots[layout.active[0]]))
        return RayRows(self, stowed[0].name, layout.expanded(per_row), _known(stowed))

    def _beside(self, rows: RayRows, layout: Layout) -> RayRows:
        """The rows, moved to lie where those of a layout do."""
        wanted = layout.per_row(len(rows)) if len(layout) else layout
        if np.array_equal(wanted.owner, rows.layout.owner):
            return rows
        self.metrics.moved(int((wanted.owner != rows.layout.owner).sum()), 0)
        return self._arrange(rows, np.arange(len(rows)), wanted)

    def _everywhere(self, rows: RayRows) -> RayRows:
        """A copy of all rows in every shard."""
        every = np.arange(len(rows))
        wanted = {shard: every for shard in range(self.shards)}
        name = self._bring(rows, every, wanted)
        return RayRows(self, name, rows.layout, rows.known)

    def _arrange(self, rows: RayRows, index: np.ndarray, layout: Layout) -> RayRows:
        name = self._bring(rows, index, {shard: layout.slots[shard] for shard in layout.active})
        return RayRows(self, name, layout, rows.known)

    def _bring(self, rows: RayRows, index: np.ndarray, wanted: dict[int, np.ndarray]) -> Name:
        """Make a population of rows ``index``; shard s gets the ``wanted[s]`` of them, in order."""
        name = (self._next(), 0)
        position = position_in_shard(rows.layout.owner)
        exports: list[Errand] = []
        arrangements: list[Errand] = []
        for shard, slots in wanted.items():
            parents = index[slots]
            source = rows.layout.owner[parents]
            order = np.empty(len(slots), dtype=np.int64)
            here = source == shard
            keep = position[parents[here]]
            order[here] = np.arange(len(keep))
            blocks, offset = [], len(keep)
            for other in np.unique(source[~here]):
                among = source == other
                distinct, inverse = np.unique(parents[among], return_inverse=True)
                order[among] = offset + inverse
                offset += len(distinct)
                blocks.append(len(exports))
                exports.append(Errand(int(other), None, name=rows.name, index=position[distinct]))
            has_rows = len(keep) > 0
            command = Arrange(name, rows if has_rows else None, keep, order)  # type: ignore[arg-type]
            errand = self._errand(shard, command)
            errand.blocks = tuple(blocks)
            arrangements.append(errand)
        self.metrics.in_flight(sum(len(e.index) for e in exports if e.index is not None) * rows.known.size)
        self._perform(Act(("move",), [*exports, *arrangements]), wait=False)
        return name

    def _snapshot_if_due(self) -> None:
        if self._folder is None or self._since < self.pool.snapshot_every or self._put_off:
            return
        self._since = 0
        folder = str(self._folder.path / f"at-{self._next()}")
        errands = [self._errand(shard, Save(folder)) for shard in range(self.shards)]
        try:
            self._perform(Act(("save",), errands))
        except OSError as error:
            self._folder = None
            self.warnings.append(
                f"snapshots could not be written ({error}); a failure would repeat the run from the last one"
            )
            return
        self._log.commit(folder)


def _only_stowed(result: Any, verb: str) -> Stowed | None:
    """What a shard says of the rows that a verb made there, which was to say no more."""
    return result if isinstance(result, Stowed) else only_rows(result, verb)


def _known(stowed: Sequence[Stowed]) -> Known:
    present = tuple(dict.fromkeys(name for entry in stowed for name in entry.present))
    return Known(present, sum(s.size for s in stowed) // max(1, sum(s.length for s in stowed)))


def _length(values: Sequence[Any]) -> int:
    """How many rows a verb without rows makes."""
    from itscale.pools.base import PerRow

    return next(len(value) for value in values if isinstance(value, PerRow))  # type: ignore[arg-type]


def _enlist(ray: Any, key: tuple[Any, ...], count: int, berth: Berth) -> Crew:
    """A crew that an earlier run has left, or a new one."""
    for entry in list(_idle):
        if entry[0] == key or not entry[1].ray.is_initialized():
            _idle.remove(entry)
            if entry[1].is_alive:
                return entry[1]
            entry[1].dismiss()
    for entry in list(_idle):  # of another shape, and in the way
        _idle.remove(entry)
        entry[1].dismiss()
    return Crew.enlist(ray, count, berth)


def _put_back(key: tuple[Any, ...], crew: Crew, folder: PrivateFolder | None) -> None:
    if folder is not None:
        folder.close()
    _idle.append((key, crew))


def _snapshot_folder(pool: Ray, crew: Crew) -> PrivateFolder | None:
    """Where snapshots of this run go; None if no place is shared by all."""
    if pool.snapshots is not None:
        try:
            Path(pool.snapshots).mkdir(parents=True, exist_ok=True)
            return PrivateFolder("rows", pool.snapshots)
        except OSError as error:
            raise PoolError(
                f"pool.snapshots {pool.snapshots!r} cannot be written: {error.strerror}"
            ) from error
    here = crew.ray.get_runtime_context().get_node_id()
    return PrivateFolder("rows") if crew.nodes == {here} else None
