"""Diffusion tree sampling: roll-outs that branch off where the tree so far promises most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim, check_fraction
from itscale.methods.rollout_tree import Nodes, leaf_weights, walk_weights
from itscale.methods.tree_descent import Choice, in_proportion
from itscale.methods.tree_search import TreeSearch, TreeState
from itscale.noise import Purpose
from itscale.particles import is_dead, normalise, tournament_size, without_duplicates

WEIGHTS = ("walk", "tree")


@dataclass(frozen=True, kw_only=True)
class DTS(TreeSearch):
    """A tree of states that grows by roll-outs, each scored at its end and nowhere before.

    A roll-out walks down from the root, at every node to a child in proportion to ``exp(v)`` or, with
    probability ``defensive``, to any. Here v is ``tilt r`` at the ends, and above them the log of the mean of
    ``exp(v)`` over a node's children: all are draws of the base move, so each counts once, however often
    walks went through it. A node visited N times that has fewer than ``widening N^power`` children gets one
    more by the base move; from there the roll-out goes on to the end, and all its states join the tree.

    Target: the tilted law as roll-outs are added, for rewards that are bounded above (and below, where
    ``defensive`` is 0). Every node is visited without end and its number of children grows, so a walk that
    goes to all children alike tends to the base law. Roll-outs are importance samples of such walks: each
    weighs ``exp(tilt r)`` times the ratio of the two probabilities of its walk, and log Z is the log of the
    mean weight. What is left of bias has one source, that nodes with good children get more of them. With
    ``weights="tree"``, as published, an end weighs ``exp(tilt r)`` over the numbers of children on its way,
    and log Z is the root's v. That is consistent too, and far off for long: what looked bad once is seldom
    visited again, so averages keep the bad luck and lose the good. With ``defensive=1`` both are unbiased.

    Cost: N T NFE, or all of the budget, to the last unit, and one reward call a roll-out. How many there are,
    N at least, depends on where they branch off, so a plan gives the most that there can be; the run ends
    when ``budget.reward_calls`` are used up. Memory: the states at which roll-outs may branch off, and ends.

    Attributes:
        particles: N, distinct samples handed out, with weights that make the choice among all roll-outs
            unbiased; None is the most that the budget pays for without a tree.
        walkers: roll-outs a round. They see each other's visits, and values of the rounds before.
        widening, power: limit the number of children of a node.
        branch_every: roll-outs branch off at the root and at every so many levels; None is a fifth of the
            steps, and 1 as published.
        defensive: share of the choices that values have no part in.
        weights: ``"walk"`` or ``"tree"``.

    Reference:
        Jain et al. (2025), "Diffusion Tree Sampling: Scalable inference-time alignment of diffusion models",
        arXiv:2506.20701 (``defensive=0``, ``weights="tree"``: there one end is drawn by walking down, and its
        probability is the weight here); Hesterberg (1995), "Weighted average importance sampling and
        defensive mixture distributions".
    """

    defensive: float = 0.25
    weights: Literal["walk", "tree"] = "walk"
    soft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("defensive", self.defensive)
        if self.weights not in WEIGHTS:
            raise ConfigError(f"weights must be 'walk' or 'tree', got {self.weights!r}")

    @property
    def claim(self) -> Claim:
        """Unbiased where no value leads a walk; no evidence from a tree's own values, off for long."""
        if self.defensive == 1:
            return Claim("tilted", "unbiased")
        return Claim("tilted", "consistent" if self.weights == "walk" else None)

    @property
    def choice(self) -> Choice:
        return partial(in_proportion, defensive=self.defensive)

    def hand_out(
        self, engine: Engine, state: TreeState, nodes: Nodes
    ) -> tuple[Int64[Tensor, "g n"], Float64[Tensor, "g n"], Float64[Tensor, " g"]]:
        """Return distinct roll-outs with weights that make the choice unbiased."""
        tree = state.tree
        weights = walk_weights(tree) if self.weights == "walk" else leaf_weights(tree, nodes)
        order = (~tree.made).long().argsort(dim=1, stable=True)  # a group's own roll-outs first
        packed = torch.full((len(order), state.most), -torch.inf, dtype=torch.float64)
        count = min(state.most, order.shape[1])
        packed[:, :count] = weights.gather(1, order[:, :count])
        first = replace(state.particles, move=torch.zeros_like(state.particles.move))
        u = engine.uniforms(first, Purpose.ORDER, tournament_size(state.most))
        kept = without_duplicates(normalise(packed), state.n, u)
        dead = is_dead(packed)
        log_weights = torch.where(dead[:, None], -torch.inf, kept.log_weights)
        log_z = torch.where(dead, 0.0, packed.logsumexp(1))
        return order.gather(1, kept.kept), log_weights, log_z
