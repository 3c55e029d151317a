"""A tree of roll-outs that branch off from one another, and the values of its nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.particles import log_mean_exp

ROOT = -1
"""The level of the root, whose children are draws of the initial noise."""


@dataclass(frozen=True)
class RolloutTree:
    """Roll-outs as columns; each owns the nodes from where it branched off to its end.

    Node ``(r, k)`` is the state of roll-out r at level k > branch[r]. Its children are draws of the move from
    there: its own continuation, and the first nodes of the roll-outs that branched off from it. The root's
    children are the first nodes of the roll-outs with branch -1.

    Attributes:
        parent: (g, R), the roll-out that it branched off from; 0 for those from the root.
        branch: (g, R), level of the node that it branched off from.
        log_ratio: (g, R), log of the probability of the walk to that node among walks that go to all
            children alike, minus that among walks as they were made.
        reward: (g, R), at its end; NaN where a group has no such roll-out.
        value: (g, R), tilt times reward; NaN where there is none.
    """

    parent: Int64[Tensor, "g R"]
    branch: Int64[Tensor, "g R"]
    log_ratio: Float64[Tensor, "g R"]
    reward: Float64[Tensor, "g R"]
    value: Float64[Tensor, "g R"]

    @classmethod
    def empty(cls, groups: int) -> RolloutTree:
        none = torch.zeros(groups, 0, dtype=torch.int64)
        return cls(none, none, *[none.double()] * 3)

    @property
    def made(self) -> Bool[Tensor, "g R"]:
        return ~self.value.isnan()

    def add(self, other: RolloutTree) -> RolloutTree:
        """Add roll-outs; their parents are columns of this tree."""
        return RolloutTree(
            *(torch.cat([getattr(self, f), getattr(other, f)], 1) for f in self.__dataclass_fields__)
        )

    def eves(self) -> Int64[Tensor, "g R"]:
        """The roll-out from the root that each one descends from."""
        line = torch.where(self.branch == ROOT, torch.arange(self.branch.shape[1]), self.parent)
        above = line.gather(1, line)
        while not torch.equal(above, line):
            line, above = above, above.gather(1, above)
        return line


@dataclass(frozen=True)
class Nodes:
    """What is known of the nodes at L levels where roll-outs may branch off.

    Attributes:
        levels: these levels, ascending.
        below: (L, g, R), value of each node's own continuation.
        visits, visits_below: (L, g, R), roll-outs through the node, and through its own continuation.
        children: (L, g, R), their number; 1 where a roll-out has no node at the level.
        top, top_visits: (g, R), of each roll-out's first node.
        root, root_visits, root_children: (g,), of the root.
    """

    levels: tuple[int, ...]
    below: Float64[Tensor, "L g R"]
    visits: Int64[Tensor, "L g R"]
    visits_below: Int64[Tensor, "L g R"]
    children: Int64[Tensor, "L g R"]
    top: Float64[Tensor, "g R"]
    top_visits: Int64[Tensor, "g R"]
    root: Float64[Tensor, " g"]
    root_visits: Int64[Tensor, " g"]
    root_children: Int64[Tensor, " g"]


def back_up(tree: RolloutTree, levels: Sequence[int], soft: bool = True) -> Nodes:
    """Find the values of all nodes from the ends of the roll-outs upwards.

    The soft value of a node is ``log mean exp`` of its children's: each child is a fresh draw of the move
    from the node, made before anything was known of it, and counts once, however often its value led later
    roll-outs through it. Otherwise it is the best value below the node.

    Args:
        levels: where roll-outs may branch off, ascending.
    """
    made = tree.made
    top = torch.where(made, tree.value, -math.inf)
    visits = made.long()
    found = []
    for level in reversed(levels):
        joins = made & (tree.branch == level)
        children = torch.ones_like(visits).scatter_add_(1, tree.parent, joins.long())
        through = visits.scatter_add(1, tree.parent, torch.where(joins, visits, 0))
        found.append((top, through, visits, children))
        top, visits = _merged(top, tree.parent, joins, children, soft), through
    first = made & (tree.branch == ROOT)
    values = torch.where(first, top, -math.inf)
    count = first.sum(1)
    mean = log_mean_exp(values) + math.log(max(values.shape[1], 1)) - count.double().log()
    below, through, under, children = (torch.stack(f) for f in zip(*reversed(found), strict=True))
    return Nodes(
        levels=tuple(levels),
        below=below,
        visits=through,
        visits_below=under,
        children=children,
        top=top,
        top_visits=visits,
        root=mean if soft else values.amax(1),
        root_visits=torch.where(first, visits, 0).sum(1),
        root_children=count,
    )


def _merged(
    own: Float64[Tensor, "g R"],
    parent: Int64[Tensor, "g R"],
    joins: Bool[Tensor, "g R"],
    children: Int64[Tensor, "g R"],
    soft: bool,
) -> Float64[Tensor, "g R"]:
    """The values of nodes from their own continuations and from the roll-outs that join them."""
    side = torch.where(joins, own, -math.inf)
    peak = own.scatter_reduce(1, parent, side, "amax")
    if not soft:
        return peak
    base = peak.clamp_min(torch.finfo(torch.float64).min)  # so that -inf is not taken from itself
    share = torch.where(joins, (side - base.gather(1, parent)).exp(), 0.0)
    return ((own - base).exp().scatter_add(1, parent, share) / children).log() + base


def walk_weights(tree: RolloutTree) -> Float64[Tensor, "g R"]:
    """Log-weights of roll-outs as importance samples: children are draws of the move, all alike, and walkers
    preferred some; the sum is an estimate of Z.
    """
    made = tree.made
    shares = tree.value + tree.log_ratio - made.sum(1, keepdim=True).double().log()
    return torch.where(made, shares, -math.inf)


def leaf_weights(tree: RolloutTree, nodes: Nodes) -> Float64[Tensor, "g R"]:
    """Log-weights of the ends of the finished tree: ``exp(v)`` over the numbers of children on the way.

    They sum to the exponential of the root's soft value, and are, up to that factor, the probabilities with
    which a walk that goes to children in proportion to ``exp(v)`` arrives at each end.
    """
    made = tree.made
    share = torch.where(tree.branch == ROOT, -nodes.root_children[:, None].double().log(), 0.0)
    for level, children in zip(nodes.levels, nodes.children, strict=True):
        split = share - children.double().log()
        share = torch.where(made & (tree.branch == level), split.gather(1, tree.parent), split)
    return torch.where(made, share + tree.value, -math.inf)
