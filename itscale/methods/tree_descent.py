"""Walks down a tree of roll-outs, to the node from which the next one branches off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.methods.rollout_tree import ROOT, Nodes, RolloutTree
from itscale.particles import draw_parent


class Children(NamedTuple):
    """The children of the nodes where walkers stand, as roll-outs, and what tells walkers apart.

    Attributes:
        value: -inf where roll-out R is no child.
        visits: of the child; 1 where there is none.
        is_child: whether it is one.
        parent_visits: of the node.
        rank: how many walkers before this one go on from the same node.
        u: uniforms.
    """

    value: Float64[Tensor, "g W R"]
    visits: Int64[Tensor, "g W R"]
    is_child: Bool[Tensor, "g W R"]
    parent_visits: Int64[Tensor, "g W"]
    rank: Int64[Tensor, "g W"]
    u: Float64[Tensor, "g W"]


class Chosen(NamedTuple):
    """The child that each walker goes to, and how much likelier a choice of all alike would make that."""

    child: Int64[Tensor, "g W"]
    log_ratio: Float64[Tensor, "g W"]


Choice: TypeAlias = Callable[[Children], Chosen]
"""How walkers choose among children; where a node has none, what it says is not used."""


def in_proportion(children: Children, defensive: float) -> Chosen:
    """Go to a child in proportion to ``exp(value)``, or with probability ``defensive`` to any."""
    count = children.is_child.sum(-1, keepdim=True).clamp_min(1)
    alike = children.is_child / count.double()
    best = children.value.amax(-1, keepdim=True)
    good = torch.where(children.is_child, (children.value - best).exp(), 0.0)
    good = torch.where(best == -math.inf, alike, good / good.sum(-1, keepdim=True))
    odds = torch.lerp(good, alike, defensive).log()
    child = draw_parent(odds.flatten(0, 1), children.u.flatten()).view_as(children.rank)
    taken = odds.gather(-1, child[..., None]).squeeze(-1)
    return Chosen(child, -count.squeeze(-1).double().log() - taken)


def upper_bound(children: Children, exploration: float) -> Chosen:
    """Go to the child of the largest ``value + exploration sqrt(log N / n)``.

    N and n are visits of node and child. Of several walkers at a node the second takes the second best child,
    and so on.
    """
    bonus = (children.parent_visits[..., None].double().log() / children.visits).sqrt()
    finite = children.value.clamp_min(torch.finfo(torch.float64).min)
    score = torch.where(children.is_child, finite + exploration * bonus, -math.inf)
    order = score.argsort(dim=-1, descending=True, stable=True)
    among = children.rank % children.is_child.sum(-1).clamp_min(1)
    child = order.gather(-1, among[..., None]).squeeze(-1)
    return Chosen(child, torch.zeros(child.shape, dtype=torch.float64))


@dataclass(frozen=True)
class Widening:
    """A node that was visited N times may have up to ``factor * N ** power`` children, and always one."""

    factor: float
    power: float

    def allows(self, children: Int64[Tensor, "g W"], visits: Int64[Tensor, "g W"]) -> Bool[Tensor, "g W"]:
        """Whether a child may be added; the present visit counts."""
        return children < self.factor * visits.double() ** self.power


@dataclass(frozen=True)
class Walks:
    """Where walkers stopped: roll-out and level of the node, and the ``log_ratio`` of the way there."""

    parent: Int64[Tensor, "g W"]
    branch: Int64[Tensor, "g W"]
    log_ratio: Float64[Tensor, "g W"]


def descend(
    tree: RolloutTree,
    nodes: Nodes,
    allowed: Bool[Tensor, "g W places"],
    widening: Widening,
    choose: Choice,
    u: Float64[Tensor, "g W places"],
) -> Walks:
    """Walk from the root to a node that may have one more child.

    Walkers move at once. Those of one group count as visits and children for the ones after them, so the
    numbers of children stay within their bounds.

    Args:
        allowed: places where a walker may branch off: the root, then the levels of ``nodes``; none for a
            walker that rests. At the last allowed one it does, whatever the widening says.
        u: uniforms.

    Returns:
        Where each walker stopped.
    """
    chain = torch.zeros(allowed.shape[:2], dtype=torch.int64)
    level_of, log_ratio = torch.full_like(chain, ROOT), torch.zeros(chain.shape, dtype=torch.float64)
    walks = allowed.any(-1)
    last = allowed.shape[-1] - 1 - allowed.flip(-1).long().argmax(-1)
    for place, level in enumerate((ROOT, *nodes.levels)):
        if level == ROOT:
            count, visits = (c[:, None].expand_as(chain) for c in (nodes.root_children, nodes.root_visits))
        else:
            count, visits = (c[place - 1].gather(1, chain) for c in (nodes.children, nodes.visits))
        rank = _rank(chain, walks)
        is_open = widening.allows(count + rank, visits + rank + 1)
        stops = walks & allowed[..., place] & (is_open | (last == place))
        level_of = torch.where(stops, level, level_of)
        walks = walks & ~stops
        if (walks & ((level == ROOT) | (count > 1))).any():
            found = _children(tree, nodes, place - 1, chain)
            children = Children(*found, visits, _rank(chain, walks), u[..., place])
            chosen = choose(children)
            chain = torch.where(walks, chosen.child, chain)
            log_ratio = torch.where(walks, log_ratio + chosen.log_ratio, log_ratio)
    return Walks(chain, level_of, log_ratio)


def _children(
    tree: RolloutTree, nodes: Nodes, which: int, chain: Int64[Tensor, "g W"]
) -> tuple[Float64[Tensor, "g W R"], Int64[Tensor, "g W R"], Bool[Tensor, "g W R"]]:
    """Values and visits of the children of nodes, and which are: of the root where ``which`` is -1."""
    level = ROOT if which < 0 else nodes.levels[which]
    is_child = (tree.made & (tree.branch == level))[:, None].expand(-1, chain.shape[1], -1)
    value, visits = nodes.top[:, None], nodes.top_visits[:, None]
    if which >= 0:  # a roll-out's own continuation is a child too
        own = torch.arange(tree.value.shape[1]) == chain[..., None]
        is_child = is_child & (tree.parent[:, None] == chain[..., None]) | own
        value = torch.where(own, nodes.below[which][:, None], value)
        visits = torch.where(own, nodes.visits_below[which][:, None], visits)
    return torch.where(is_child, value, -math.inf), torch.where(is_child, visits, 1), is_child


def _rank(chain: Int64[Tensor, "g W"], among: Bool[Tensor, "g W"]) -> Int64[Tensor, "g W"]:
    """How many walkers before each one are on the same roll-out, of those ``among``."""
    same = (chain[:, :, None] == chain[:, None, :]) & among[:, None, :]
    return same.tril(-1).sum(-1)
