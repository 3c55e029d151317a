"""CoDe: blockwise best-of-M. Chains branch, run a block of steps freely, and one branch survives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, forget_weights, plan_particles
from itscale.potentials import Difference


@dataclass(frozen=True)
class Branches(State):
    """Chains, each with as many branches as are under way."""

    branches: int = 1

    def ended(self, engine: Engine) -> Particles:
        """The best branch of each chain, scored as it stands."""
        p = super().ended(engine)
        scores = p.reward.nan_to_num(nan=-torch.inf).unflatten(1, (-1, self.branches))
        return engine.select(p, scores.argmax(-1) + self.branches * torch.arange(scores.shape[1]))


@dataclass(frozen=True, kw_only=True)
class CoDe:
    """N independent chains; every ``block`` steps M branches are scored and one survives, without weights.

    Cost: N (1 + M (T - 1)) NFE and N M reward calls a block. It is a search, between SVDD (blocks of one
    step) and best-of-M (one block). ``result.best()`` is its answer.

    Attributes:
        particles: N, the number of chains; None takes what the budget allows.
        children: M.
        block: steps between selections.
        selection: ``"argmax"`` takes the best branch (as published), ``"soft"`` draws by exp(tilt r).

    Reference:
        Singh et al. (2025), "CoDe: Blockwise Control for Denoising Diffusion Models", arXiv:2502.00968.
    """

    particles: int | None = None
    children: int = 4
    block: int = 5
    selection: Literal["soft", "argmax"] = "argmax"

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    has_lineage: ClassVar[bool] = False  # the number of branches differs from level to level

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("children", self.children)
        check_count("block", self.block)
        if self.selection not in ("soft", "argmax"):
            raise ConfigError(f"selection must be 'soft' or 'argmax', got {self.selection!r}")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        nfe = 1
        for level in range(cost.steps):
            looks = 0 if level + 1 == cost.steps else 1
            nfe += (self.children if looks else 1) * (cost.extra_looks[level] + looks)
        blocks = sum(self._selects(level + 1, cost.steps) for level in range(cost.steps - 1))
        calls = max(1, blocks * self.children)  # with one step there is nothing to select
        early = max(0, blocks - 1) * self.children  # the last block ends at the last look
        return plan_particles(
            self.particles,
            4,
            lambda n: cost.plan(n, n * nfe, n * calls, n * early),
            budget,
            cost.rows_per_look,
            shrink="children or steps",
        )

    def init(self, engine: Engine, plan: Plan) -> Branches:
        return Branches(engine.look(engine.start(plan.particles)))

    def step(self, engine: Engine, state: Branches) -> Branches:
        p, level = state.particles, int(state.particles.level[0, 0])
        branches = level % self.block == 0 and level + 1 < engine.steps
        p = engine.propose(p, children=self.children if branches else 1)
        if level + 1 == engine.steps:
            return Branches(engine.score(p), is_done=True)
        p = engine.look(p)
        if self._selects(level + 1, engine.steps):
            p = engine.weight(engine.score(p), Difference())
            p = engine.choose(p, self.children, argmax=self.selection == "argmax", correct=False)
            return Branches(replace(forget_weights(p), carry={}))
        return Branches(p, branches=self.children if branches else state.branches)

    def _selects(self, level: int, steps: int) -> bool:
        """Whether a block ends with the look at this level; the last look always ends one."""
        return level > 0 and (level % self.block == 0 or level == steps - 1)
