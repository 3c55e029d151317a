"""Beam search over denoising steps, and its unbiased form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, forget_weights, plan_particles
from itscale.potentials import Difference

SELECTIONS = ("top", "unbiased")
SCHEDULES = ("constant", "narrowing")


@dataclass(frozen=True)
class BeamState(State):
    """A beam, and the number of its children at every noisy step."""

    children: int = 0


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A beam of N states; each has M children at every step, and N of all N M children go on.

    Cost: N (1 + M (T - 1)) NFE and as many reward calls. With ``selection="top"`` the best N go on: a
    search, SVDD with a common pool of children. With ``"unbiased"`` no two kept are copies and weights make
    up for the choice: the tilted law as N grows, with an unbiased evidence. With ``schedule="narrowing"`` the
    beam falls from N states to one, by the same factor at every level, and the N M children are shared among
    fewer and fewer: wide while little is decided, deep when it is. One sample a group is handed out then.

    Attributes:
        particles: N, the width of the beam; None takes what the budget allows.
        children: M.
        selection: ``"top"`` or ``"unbiased"``.
        schedule: of the width, ``"constant"`` or ``"narrowing"``.

    Reference:
        Guo et al. (2025), "Training-Free Guidance Beyond Differentiability: Scalable Path Steering with Tree
        Search", arXiv:2502.11420 (top); Li et al. (2025), "Dynamic Search for Inference-Time Alignment in
        Diffusion Models", arXiv:2503.02039 (narrowing, there with looks ahead); Fearnhead and Clifford
        (2003), "On-line inference for hidden Markov models via particle filters", section 3.2 (unbiased).
    """

    particles: int | None = None
    children: int = 4
    selection: Literal["top", "unbiased"] = "top"
    schedule: Literal["constant", "narrowing"] = "constant"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("children", self.children)
        if self.selection not in SELECTIONS:
            raise ConfigError(f"selection must be 'top' or 'unbiased', got {self.selection!r}")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule must be 'constant' or 'narrowing', got {self.schedule!r}")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    @property
    def claim(self) -> Claim:
        return Claim("tilted", "unbiased") if self.selection == "unbiased" else Claim(None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            width = nfe = calls = moves = n
            for level in range(cost.steps - 1):
                moves = n * self.children if cost.noisy[level] else width
                nfe += moves * (1 + cost.extra_looks[level])
                calls += moves
                width = self._width(n, level + 1, cost.steps) if cost.noisy[level] else width
            return cost.plan(n, nfe + width * cost.extra_looks[-1], calls, calls - moves)

        return plan_particles(
            self.particles, 4, cost_of, budget, cost.rows_per_look, shrink="children or steps"
        )

    def init(self, engine: Engine, plan: Plan) -> BeamState:
        p = engine.weight(engine.score(engine.look(engine.start(plan.particles))), Difference())
        p = p if self.selection == "unbiased" else forget_weights(p)
        return BeamState(p, children=plan.particles * self.children)

    def step(self, engine: Engine, state: BeamState) -> BeamState:
        p, level = state.particles, int(state.particles.level[0, 0])
        is_noisy = engine.is_noisy(level)
        p = self._spread(engine, p, state.children) if is_noisy else engine.propose(p)
        if level + 1 == engine.steps:
            p = engine.weight(engine.score(p), Difference())
            return replace(
                state, particles=p if self.selection == "unbiased" else forget_weights(p), is_done=True
            )
        p = engine.weight(engine.score(engine.look(p)), Difference())
        if self.selection == "top":
            p = forget_weights(p)
        width = self._width(state.children // self.children, level + 1, engine.steps)
        if is_noisy and width < p.n:
            p = self._narrow(engine, p, width)
        return replace(state, particles=p)

    def _width(self, n: int, level: int, steps: int) -> int:
        """States that are kept at a level."""
        if self.schedule == "constant":
            return n
        return max(1, round(n ** (1 - level / (steps - 1))))

    def _spread(self, engine: Engine, p: Particles, children: int) -> Particles:
        """Make children, as evenly as can be; the first states of a beam, its best, get one more."""
        brood, more = divmod(children, p.n)
        if not more:
            return engine.propose(p, children=brood)
        counts = torch.full((p.n,), brood)
        counts[:more] += 1
        index = torch.arange(p.n).repeat_interleave(counts).expand(p.groups, -1)
        # a state with more children gives each of them less of its weight
        share = (counts.double() * p.n / children).log()
        p = engine.select(replace(p, log_weights=p.log_weights - share), index)
        return engine.propose(p)

    def _narrow(self, engine: Engine, p: Particles, width: int) -> Particles:
        """Keep so many of the children."""
        if self.selection == "unbiased":
            return engine.thin(p, width)
        return engine.select(p, p.value.sort(dim=1, descending=True, stable=True).indices[:, :width])
