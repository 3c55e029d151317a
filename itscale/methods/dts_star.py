"""Diffusion tree search: roll-outs that branch off below the best that was found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim
from itscale.methods.rollout_tree import Nodes
from itscale.methods.tree_descent import Choice, upper_bound
from itscale.methods.tree_search import TreeSearch, TreeState, best_of


@dataclass(frozen=True, kw_only=True)
class DTSStar(TreeSearch):
    """The tree of ``DTS`` grown greedily: walkers go to the child of the largest ``v + c sqrt(log N / n)``.

    Here v is the best ``tilt r`` below a child, not a soft average: an average over children is an estimate
    for draws of the base move and no measure of the best that greed can reach. N and n are visits of the node
    and of its child. It is a search and follows no target; the N best samples are handed out.

    Cost: as ``DTS``.

    Attributes:
        particles: N, samples handed out; None is the most that the budget pays for without a tree.
        walkers: roll-outs a round; where several stand at a node, the second takes the second best child.
        widening, power: a node visited N times may have ``widening N^power`` children.
        branch_every: roll-outs branch off at the root and at every so many levels; None is a fifth of the
            steps.
        exploration: c, in the units of ``tilt r``.

    Reference:
        Jain et al. (2025), "Diffusion Tree Sampling: Scalable inference-time alignment of diffusion models",
        arXiv:2506.20701 (DTS*; there values are soft ones).
    """

    exploration: float = 1.0
    soft: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.exploration >= 0:
            raise ConfigError(f"exploration must be >= 0, got {self.exploration!r}")

    @property
    def claim(self) -> Claim:
        return Claim(None)

    @property
    def choice(self) -> Choice:
        return partial(upper_bound, exploration=self.exploration)

    def hand_out(
        self, engine: Engine, state: TreeState, nodes: Nodes
    ) -> tuple[Int64[Tensor, "g n"], Float64[Tensor, "g n"], Float64[Tensor, " g"]]:
        """Return the roll-outs of highest reward."""
        index = best_of(state.tree, state.n)
        zero = torch.zeros(index.shape, dtype=torch.float64)
        return index, zero, zero[:, 0]
