"""Beam search over denoising steps, and its unbiased form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, forget_weights, plan_particles
from itscale.potentials import Difference

SELECTIONS = ("top", "unbiased")


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A beam of N states; each has M children at every step, and N of all N M children go on.

    Cost: N (1 + M (T - 1)) NFE and as many reward calls. With ``selection="top"`` the best N go on: a
    search, SVDD with a common pool of children. With ``"unbiased"`` no two kept are copies and weights make
    up for the choice: the tilted law as N grows, with an unbiased evidence.

    Attributes:
        particles: N, the width of the beam; None takes what the budget allows.
        children: M.
        selection: ``"top"`` or ``"unbiased"``.

    Reference:
        Guo et al. (2025), "Training-Free Guidance Beyond Differentiability: Scalable Path Steering with Tree
        Search", arXiv:2502.11420 (top); Fearnhead and Clifford (2003), "On-line inference for hidden Markov
        models via particle filters", section 3.2 (unbiased).
    """

    particles: int | None = None
    children: int = 4
    selection: Literal["top", "unbiased"] = "top"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("children", self.children)
        if self.selection not in SELECTIONS:
            raise ConfigError(f"selection must be 'top' or 'unbiased', got {self.selection!r}")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    @property
    def claim(self) -> Claim:
        return Claim("tilted", "unbiased") if self.selection == "unbiased" else Claim(None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        nfe = calls = last = 1
        for level in range(cost.steps - 1):
            brood = self.children if cost.noisy[level] else 1
            nfe += brood * (1 + cost.extra_looks[level])
            calls += brood
            last = brood
        return plan_particles(
            self.particles,
            4,
            lambda n: cost.plan(n, n * (nfe + cost.extra_looks[-1]), n * calls, n * (calls - last)),
            budget,
            cost.rows_per_look,
            shrink="children or steps",
        )

    def init(self, engine: Engine, plan: Plan) -> State:
        p = engine.weight(engine.score(engine.look(engine.start(plan.particles))), Difference())
        return State(p if self.selection == "unbiased" else forget_weights(p))

    def step(self, engine: Engine, state: State) -> State:
        p, level = state.particles, int(state.particles.level[0, 0])
        width, brood = p.n, self.children if engine.is_noisy(level) else 1
        p = engine.propose(p, children=brood)
        if level + 1 == engine.steps:
            p = engine.weight(engine.score(p), Difference())
            return State(p if self.selection == "unbiased" else forget_weights(p), is_done=True)
        p = engine.weight(engine.score(engine.look(p)), Difference())
        if self.selection == "top":
            p = forget_weights(p)
            if brood == 1:
                return State(p)
            best = p.value.sort(dim=1, descending=True, stable=True).indices[:, :width]
            return State(engine.select(p, best))
        return State(p if brood == 1 else engine.thin(p, width))
