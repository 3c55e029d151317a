"""Chains that draw children until one passes, each at its own level: what searches with a rollover share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Cost, State, as_they_stand
from itscale.methods.rollover import Rollover

Threshold: TypeAlias = Literal["historical", "parent"]
THRESHOLDS = ("historical", "parent")


@dataclass(frozen=True)
class Chains(State):
    """Chains, each at its own level.

    Attributes:
        candidate: the best child drawn at each chain's level; meaningless where nothing was drawn yet.
        threshold: (g, n), the reward that a child has to exceed.
        best: (g, n), reward of the candidate; -inf where there is none.
        rollover: draws allowed and used.
        rounds: how many rounds of draws are left.
        draws: (steps,) draws per level so far, over all chains.
    """

    candidate: Particles | None = None
    threshold: Float64[Tensor, "g n"] = field(default_factory=lambda: torch.zeros(0))
    best: Float64[Tensor, "g n"] = field(default_factory=lambda: torch.zeros(0))
    rollover: Rollover | None = None
    rounds: int = 0
    draws: Int64[Tensor, " steps"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def ended(self, engine: Engine) -> Particles:
        """Each chain's state or its best child so far, whichever scores higher, as it stands."""
        engine.notes["draws per level"] = self.draws[1:].tolist()
        return as_they_stand(engine, self.best_above(engine, self.particles.scores))

    def best_above(self, engine: Engine, least: Float64[Tensor, "g n"]) -> Particles:
        """Each chain's best child where it scores above ``least``, else where the chain stands."""
        assert self.candidate is not None
        column = torch.arange(self.particles.n).expand(self.best.shape)
        chosen = torch.where(self.best > least, column + self.particles.n, column)
        return engine.gather([self.particles, self.candidate], chosen)


@dataclass(frozen=True)
class Passing:
    """When a child passes, so that its chain moves on with it.

    Attributes:
        threshold: it must beat all that the chain has seen, or its parent only.
        bars: (steps - 1,) rewards at which it passes at levels 1 to T - 1, whatever came before.
        min_draws: children to draw at a level at least.
    """

    threshold: Threshold = "historical"
    bars: tuple[float, ...] | None = None
    min_draws: int = 1

    def __call__(self, state: Chains, child: Particles, score: Tensor, used: Tensor) -> Tensor:
        if self.bars is None:
            passes = score > state.threshold
        else:
            passes = score >= torch.tensor(self.bars, dtype=torch.float64)[child.level - 1]
        return passes & (used >= self.min_draws)


def check_moves(name: str, cost: Cost) -> None:
    """Raise ConfigError where chains at levels of their own cannot move together."""
    if cost.steps < 2:
        raise ConfigError(f"{name} needs at least 2 steps: the last one is a jump and draws nothing")
    if any(extra > 0 for extra in cost.extra_looks):
        raise ConfigError(
            f"{name} needs a solver with one evaluation a step, such as '2m-sde' or 'ancestral'"
        )


def start(engine: Engine, n: int, initial: int, rounds: int, quota: int) -> Chains:
    """Start n chains, each from the best of ``initial`` noises."""
    p = engine.score(engine.look(engine.start(n * initial)))
    found = p.reward.nan_to_num(nan=-torch.inf).reshape(p.groups, n, initial).argmax(-1)
    p = engine.select(p, found + initial * torch.arange(n))
    chains = torch.arange(n).expand(p.groups, -1)
    p = replace(p, origin=chains, eve=chains)  # from here on a chain is its own ancestor
    return Chains(
        p,
        candidate=p,
        threshold=p.scores,
        best=torch.full_like(p.reward, -torch.inf),
        rollover=Rollover.start(p.level.shape, quota),
        rounds=rounds,
        draws=torch.zeros(engine.steps, dtype=torch.int64),
    )


def draw(engine: Engine, state: Chains, passing: Passing) -> Chains:
    """One round: every chain draws one child."""
    assert state.candidate is not None
    assert state.rollover is not None
    parent, n = state.particles, state.particles.n
    child = engine.score(engine.look(engine.propose(parent)))
    score, column = child.scores, torch.arange(n).expand(parent.groups, n)
    improves = score > state.best
    rollover = state.rollover.draw()
    accepted = passing(state, child, score, rollover.used)
    record = torch.where(accepted, torch.maximum(state.threshold, score), state.threshold)
    best = torch.where(improves, score, state.best)
    candidate = engine.gather([state.candidate, child], torch.where(improves, column + n, column))
    may_move = child.level < engine.steps - 1  # at the last level all that remains is to draw
    forced = may_move & ~accepted & rollover.is_spent
    moves = (may_move & accepted) | forced
    takes = torch.where(may_move & accepted, column + n, torch.where(forced, column + 2 * n, column))
    current = engine.gather([parent, child, candidate], takes)
    if passing.threshold == "parent":
        record = torch.where(moves, current.scores, record)
    return replace(
        state,
        particles=current,
        candidate=candidate,
        threshold=record,
        best=torch.where(moves, -torch.inf, best),
        rollover=rollover.advance(moves, accepted),
        rounds=state.rounds - 1,
        draws=state.draws + torch.bincount(child.level.reshape(-1), minlength=len(state.draws)),
    )


def finish(engine: Engine, state: Chains) -> Chains:
    """Hand out the denoised sample of each chain's best child at the level it has reached."""
    kept = state.best_above(engine, torch.full_like(state.best, -torch.inf))
    short = int((kept.level < engine.steps - 1).sum())
    if short:
        engine.watch.warnings.append(
            f"the budget ran out before {short} of {kept.level.numel()} chains reached the last level: "
            "their samples are denoised from a noisier one"
        )
    engine.notes["draws per level"] = state.draws[1:].tolist()
    return replace(state, particles=engine.score(engine.jump(kept)), is_done=True)
