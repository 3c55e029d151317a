"""The loop of tree methods: walk down the tree, branch off, roll out to the end, back up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles, Rows
from itscale.engine.ragged import Ragged
from itscale.errors import ConfigError, RewardError
from itscale.methods.base import Cost, Needs, Plan, State, check_count, plan_particles
from itscale.methods.rollout_tree import ROOT, Nodes, RolloutTree, back_up
from itscale.methods.tree_descent import Choice, Walks, Widening, descend
from itscale.methods.tree_layout import Layout
from itscale.noise import Address, Purpose


@dataclass(frozen=True)
class Flight:
    """Roll-outs of one round on their way; each joins at the level where it branches off.

    Attributes:
        walks: where walkers branched off.
        goes: (g, W), walkers under way; the others rest.
        stored: (g, W, places), numbers of the kept states; -1 where there is none yet.
        rows: of the walkers that have joined; None before the first has.
    """

    walks: Walks
    goes: Bool[Tensor, "g W"]
    stored: Int64[Tensor, "g W places"]
    rows: Ragged | None = None


@dataclass(frozen=True)
class TreeState(State):
    """A tree, and the roll-outs that will be its next ones; ``particles`` are where the walkers stand.

    Attributes:
        tree: the finished roll-outs.
        stored: (g, R, places), numbers of the kept states of each roll-out: at the levels where others may
            branch off from it, and at its last.
        kept: these states in the order in which they were made, a batch a step.
        count: how many they are.
        flight: the round under way.
        round: its number.
        left, calls: (g,), NFE and roll-outs that may still be begun.
        n: number of samples to hand out.
        most: roll-outs that a group can make at most.
        layout: where roll-outs may branch off.
    """

    tree: RolloutTree = field(default_factory=lambda: RolloutTree.empty(0))
    stored: Int64[Tensor, "g R places"] = field(default_factory=lambda: torch.zeros(0, 0, 0).long())
    kept: tuple[Rows, ...] = ()
    count: int = 0
    flight: Flight | None = None
    round: int = 0
    left: Int64[Tensor, " g"] = field(default_factory=lambda: torch.zeros(0).long())
    calls: Int64[Tensor, " g"] = field(default_factory=lambda: torch.zeros(0).long())
    n: int = 0
    most: int = 0
    layout: Layout | None = None

    def ended(self, engine: Engine) -> Particles:
        """The best roll-outs of the tree, as many of every group; in the first round, the walkers."""
        if not self.tree.made.any():
            return super().ended(engine)
        count = min(self.n, int(self.tree.made.sum(1).min()))
        return ends_of(engine, self, best_of(self.tree, count))


@dataclass(frozen=True, kw_only=True)
class TreeSearch(ABC):
    """Base of the methods that grow a tree of roll-outs: they differ in values, choice and output."""

    particles: int | None = None
    walkers: int = 8
    widening: float = 1.0
    power: float = 0.5
    branch_every: int | None = None
    has_lineage: ClassVar[bool] = False
    soft: ClassVar[bool]

    @property
    @abstractmethod
    def choice(self) -> Choice:
        """How walkers choose among children."""

    @abstractmethod
    def hand_out(
        self, engine: Engine, state: TreeState, nodes: Nodes
    ) -> tuple[Int64[Tensor, "g n"], Float64[Tensor, "g n"], Float64[Tensor, " g"]]:
        """Return roll-outs, their log-weights, and log Z of each group."""

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("walkers", self.walkers)
        check_count("branch_every", self.branch_every)
        if not self.widening > 0:
            raise ConfigError(f"widening must be positive, got {self.widening!r}")
        if not 0 < self.power < 1:
            raise ConfigError(
                f"power must be between 0 and 1, got {self.power!r}: at 0 nodes get no more children, at 1 "
                "none is visited again"
            )

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        layout = self._layout(cost.noisy, cost.extra_looks)
        each = layout.costs[0]
        sized = plan_particles(self.particles, 16, lambda n: Plan(n, n * each, n), budget, cost.rows_per_look)
        n = sized.particles
        limits = [] if budget is None else [budget.nfe]
        if budget is not None and budget.model_rows is not None:
            limits.append(budget.model_rows // cost.rows_per_look)
        given = [int(limit) for limit in limits if limit is not None]
        nfe = layout.largest(min(given) if given else n * each)
        most = 1 + (nfe - each) // layout.costs[-1]
        if budget is not None and budget.reward_calls is not None:
            most = min(most, int(budget.reward_calls))
        return Plan(n, nfe, most)

    def init(self, engine: Engine, plan: Plan) -> TreeState:
        if engine.initial is not None:
            raise ConfigError(f"{type(self).__name__} draws noises as its tree grows: leave initial out")
        levels = range(engine.steps)
        layout = self._layout(
            [engine.is_noisy(k) for k in levels], [engine.kernel.extra_looks(k) for k in levels]
        )
        left, calls = (torch.full((engine.groups,), n) for n in (plan.nfe, plan.reward_calls))
        walkers = int(layout.allowed(left[:1], calls[:1], self.walkers).any(-1).sum())
        state = TreeState(
            Particles.first(None, engine.groups, walkers),  # type: ignore[arg-type]
            tree=RolloutTree.empty(engine.groups),
            stored=torch.zeros(engine.groups, 0, len(layout.levels) + 1, dtype=torch.int64),
            left=left,
            calls=calls,
            n=plan.particles,
            most=plan.reward_calls,
            layout=layout,
        )
        return self._move(engine, self._set_out(engine, state, None))

    def step(self, engine: Engine, state: TreeState) -> TreeState:
        """Move all walkers by one level: those at the lowest one, and those that branch off there."""
        return self._move(engine, state)

    def _layout(self, noisy: Sequence[bool], extra_looks: Sequence[int]) -> Layout:
        return Layout.of(noisy, extra_looks, self.branch_every or max(1, len(noisy) // 5))

    def _set_out(self, engine: Engine, state: TreeState, nodes: Nodes | None) -> TreeState:
        """Choose where the walkers of the next round branch off, or finish when nothing is left."""
        layout = state.layout
        assert layout is not None
        allowed = layout.allowed(state.left, state.calls, state.particles.n)
        width = int(allowed.any(-1).sum(1).max())  # of several walkers the last ones rest
        if not width:
            assert nodes is not None
            return self._finish(engine, state, nodes)
        allowed = allowed[:, :width]
        goes = allowed.any(-1)
        if nodes is None:
            none = torch.zeros(goes.shape, dtype=torch.int64)
            walks = Walks(none, none + ROOT, none.double())
        else:
            widening = Widening(self.widening, self.power)
            u = self._uniforms(engine, state, width, allowed.shape[-1])
            walks = descend(state.tree, nodes, allowed, widening, self.choice, u)
        place = (walks.branch[..., None] == torch.tensor((ROOT, *layout.levels))).long().argmax(-1)
        price = torch.where(goes, torch.tensor(layout.costs)[place], 0)
        stored = torch.full((*goes.shape, len(layout.levels) + 1), -1)
        return replace(
            state,
            flight=Flight(walks, goes, stored),
            left=state.left - price.sum(1),
            calls=state.calls - goes.sum(1),
        )

    def _move(self, engine: Engine, state: TreeState) -> TreeState:
        """Move the round under way on by one level."""
        flight, layout = state.flight, state.layout
        assert flight is not None
        assert layout is not None
        level = int(flight.walks.branch[flight.goes].min()) if flight.rows is None else flight.rows.level
        moved = self._with_joining(engine, state, flight, level).move(engine, self._act(engine, state, level))
        assert moved.rows is not None
        place = layout.place(moved.level)
        kept, count, stored = state.kept, state.count, flight.stored.clone()
        if place is not None:
            stored[moved.group, moved.slot, place] = count + torch.arange(len(moved))
            kept, count = (*kept, moved.rows), count + len(moved)
        p = _standing(engine, state.particles, moved)
        flight = replace(flight, rows=moved, stored=stored)
        state = replace(state, particles=p, kept=kept, count=count, flight=flight)
        return state if moved.level < layout.last else self._land(engine, state, moved)

    def _with_joining(self, engine: Engine, state: TreeState, flight: Flight, level: int) -> Ragged:
        """Add the walkers that branch off at this level to those under way, in the order of walkers."""
        group, slot = (flight.goes & (flight.walks.branch == level)).nonzero().unbind(1)
        if level == ROOT:
            return Ragged(None, ROOT, group, slot)
        before = flight.rows
        if not len(group):
            assert before is not None
            return before
        assert state.layout is not None
        numbers = state.stored[group, flight.walks.parent[group, slot], state.layout.place(level)]
        rows = fetched(engine, state.kept, numbers)
        if before is not None:
            rows = engine.pool.join([before.rows, rows])
            group, slot = torch.cat([before.group, group]), torch.cat([before.slot, slot])
        order = (group * flight.goes.shape[1] + slot).argsort()
        return Ragged(rows.take(order), level, group[order], slot[order])

    def _land(self, engine: Engine, state: TreeState, moved: Ragged) -> TreeState:
        """Score the ends of a round, back up, and set out again."""
        flight, layout = state.flight, state.layout
        assert flight is not None
        assert layout is not None
        found, valid, scored = moved.score(engine)
        if not state.tree.made.any() and not valid.any():
            reason = scored.reasons[0] if scored.reasons else "NaN or +inf"
            raise RewardError(f"the reward has no valid score for any of {len(moved)} samples: {reason}")
        reward, value = torch.full((2, *flight.goes.shape), torch.nan, dtype=torch.float64)
        where = (moved.group, moved.slot)
        reward[where] = found
        value[where] = torch.where(valid, engine.tilt * found if engine.tilt else 0.0, -torch.inf)
        walks = flight.walks
        tree = state.tree.add(RolloutTree(walks.parent, walks.branch, walks.log_ratio, reward, value))
        nodes = back_up(tree, layout.levels, self.soft)
        last = state.particles.reward.clone()
        last[where] = found
        state = replace(
            state,
            particles=replace(state.particles, reward=last),
            tree=tree,
            stored=torch.cat([state.stored, flight.stored], 1),
            flight=None,
            round=state.round + 1,
        )
        return self._set_out(engine, state, nodes)

    def _finish(self, engine: Engine, state: TreeState, nodes: Nodes) -> TreeState:
        """Hand out samples of the tree."""
        index, log_weights, log_z = self.hand_out(engine, state, nodes)
        p = replace(ends_of(engine, state, index), log_weights=log_weights, log_evidence=log_z)
        engine.notes["roll-outs"] = state.tree.made.sum(1).tolist()
        engine.notes["roll-outs from the root"] = nodes.root_children.tolist()
        return replace(state, particles=p, is_done=True, kept=(), flight=None)

    def _act(self, engine: Engine, state: TreeState, level: int) -> int:
        """Number of the random act that a move from this level is."""
        return state.round * (engine.steps + 1) + level + 1

    def _uniforms(self, engine: Engine, state: TreeState, walkers: int, count: int) -> Tensor:
        group = torch.arange(engine.groups).repeat_interleave(walkers)
        slot = torch.arange(walkers).repeat(engine.groups)
        act = torch.full_like(group, self._act(engine, state, ROOT))
        at = Address(engine.group_ids[group], act, slot, torch.zeros_like(group))
        return engine.noise.uniform(Purpose.SELECT, at, count).reshape(-1, walkers, count)


def fetched(engine: Engine, kept: tuple[Rows, ...], numbers: Int64[Tensor, " rows"]) -> Rows:
    """Gather kept states by number; only the batches that they lie in are touched."""
    ends = torch.tensor([len(rows) for rows in kept]).cumsum(0)
    batch = torch.searchsorted(ends, numbers, right=True)
    within = numbers - torch.cat([ends.new_zeros(1), ends])[batch]
    parts = [kept[b].take(within[batch == b]) for b in batch.unique().tolist()]
    order = batch.argsort(stable=True)  # the order in which the parts hold them
    return engine.pool.join(parts).take(order.argsort())


def best_of(tree: RolloutTree, count: int) -> Int64[Tensor, "g n"]:
    """The roll-outs of highest reward."""
    least = torch.finfo(torch.float64).min  # of one that is -inf, and still comes before none at all
    key = torch.where(tree.made, tree.reward.clamp_min(least), -torch.inf)
    return key.sort(dim=1, descending=True, stable=True).indices[:, :count]


def ends_of(engine: Engine, state: TreeState, index: Int64[Tensor, "g n"]) -> Particles:
    """The samples of roll-outs, with the scores that they have; no look and no reward call."""
    tree = state.tree
    rows = fetched(engine, state.kept, state.stored[..., -1].gather(1, index).reshape(-1))
    reward, value = tree.reward.gather(1, index), tree.value.gather(1, index)
    p = replace(
        Particles.first(rows, tree.value.shape[0], index.shape[1]),
        reward=reward,
        value=value,
        valid=reward > -torch.inf,
        level=torch.full_like(index, engine.steps - 1),
        scored=torch.full_like(index, engine.steps - 1),
        eve=tree.eves().gather(1, index),
    )
    return engine.score(engine.jump(p))


def _standing(engine: Engine, p: Particles, moved: Ragged) -> Particles:
    """Put walkers that moved in the place of where they stood."""
    flat = moved.group * p.n + moved.slot
    level = p.level.clone()
    level[moved.group, moved.slot] = moved.level
    if p.rows is None:  # everyone has just set out
        return replace(p, rows=moved.rows, level=level)
    index = torch.arange(p.groups * p.n)
    index[flat] = len(index) + torch.arange(len(moved))
    return replace(p, rows=engine.pool.join([p.rows, moved.rows]).take(index), level=level)
