"""Rollover budget forcing: draw children until one improves, and roll what is saved over to the next step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import BudgetError, ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, as_they_stand, check_count
from itscale.methods.rollover import Rollover
from itscale.values import ScoreCost

THRESHOLDS = ("historical", "parent")


@dataclass(frozen=True)
class RBFState(State):
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


@dataclass(frozen=True, kw_only=True)
class RBF:
    """N chains that draw children one by one, and move on with the first that improves on their record.

    Each level has an equal quota of draws. A chain whose child scores higher than everything before moves on
    at once and takes the draws that it saved along; one that runs out of draws moves on with its best child.
    What is left is spent on the last level. All chains draw together, each at its own level.

    Cost: all of ``budget.nfe`` (up to less than a round), as many reward calls; with a ``value`` that costs
    more, the most that this can be is planned, and less is spent. It is a search: it stops on
    luck, so it follows no target. The samples are the denoised ones of the best children, and
    ``result.best()`` is the answer.

    Attributes:
        particles: N, the number of chains.
        initial: noises drawn for each chain, of which the best starts it.
        threshold: ``"historical"``: a child must beat all that the chain has seen (as published);
            ``"parent"``: its parent only.
        accept: per level 1 to T - 1, a reward at which a child is accepted whatever came before (a verifier's
            threshold in place of the record).
        min_draws: children to draw at a level at least.
        draws: children a level and chain, on average, where no budget is given.
        spend: ``"all"``, or ``"published"``, which leaves the last round out when it would use the budget up.

    Reference:
        Kim et al. (2025), "Inference-Time Scaling for Flow Models via Stochastic Generation and Rollover
        Budget Forcing", arXiv:2503.19385, Algorithm 1; Sabour et al. (2025), arXiv:2512.08985 (thresholds).
    """

    particles: int | None = None
    initial: int = 8
    threshold: Literal["historical", "parent"] = "historical"
    accept: tuple[float, ...] | None = None
    min_draws: int = 1
    draws: int = 4
    spend: Literal["all", "published"] = "all"

    @property
    def needs(self) -> Needs:
        return Needs(noise=True)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    has_lineage: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("initial", self.initial)
        check_count("min_draws", self.min_draws)
        check_count("draws", self.draws)
        if self.threshold not in THRESHOLDS:
            raise ConfigError(f"threshold must be 'historical' or 'parent', got {self.threshold!r}")
        if self.spend not in ("all", "published"):
            raise ConfigError(f"spend must be 'all' or 'published', got {self.spend!r}")

    @classmethod
    def paper(cls) -> RBF:
        """As published: two chains of 25 noises each, on a VP path with the quarter-circle grid."""
        return cls(particles=2, initial=25, spend="published")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        n = self.particles or 2
        if cost.steps < 2:
            raise ConfigError("RBF needs at least 2 steps: the last one is a jump and draws nothing")
        if any(cost.extra_looks):
            raise ConfigError(
                "RBF needs a solver with one evaluation a step, such as '2m-sde' or 'ancestral'"
            )
        if self.accept is not None and len(self.accept) != cost.steps - 1:
            raise ConfigError(
                f"accept has {len(self.accept)} entries; give one for each of {cost.steps - 1} scored moves"
            )
        limit = self._limit(budget, n, cost.steps, cost.rows_per_look, cost.score)
        start, least, each = self.initial * n, n * (cost.steps - 1), 1 + cost.score.looks
        rounds = (limit - start) // n if self.spend == "all" else (limit - 1 - start) // n
        if rounds * n < least:
            raise BudgetError(
                f"the budget is too small: RBF with particles={n}, initial={self.initial} and "
                f"{cost.steps} steps needs at least {(start + least) * each} NFE and it has {limit * each}; "
                "lower initial, particles or steps"
            )
        draws = start + rounds * n
        calls = draws * cost.score.most_calls + self._rescored(n, cost.score)
        return Plan(n, draws * each, calls)

    def _limit(self, budget: Budget | None, n: int, steps: int, rows_per_look: int, score: ScoreCost) -> int:
        """Draws that can be paid for, each with one look and one score."""
        given: list[int] = []
        each = 1 + score.looks
        if budget is not None and budget.nfe is not None:
            given.append(budget.nfe // each)
        if budget is not None and budget.reward_calls is not None:
            given.append((budget.reward_calls - self._rescored(n, score)) // score.most_calls)
        if budget is not None and budget.model_rows is not None:
            given.append(budget.model_rows // (rows_per_look * each))
        return min(given) if given else n * (self.initial + self.draws * steps) + (self.spend != "all")

    def _rescored(self, n: int, score: ScoreCost) -> int:
        """Chains that may end before the last level, with a value that is no reward of their sample."""
        return 0 if score.is_denoised else n

    def init(self, engine: Engine, plan: Plan) -> RBFState:
        n = plan.particles
        p = engine.score(engine.look(engine.start(n * self.initial)))
        found = p.reward.nan_to_num(nan=-torch.inf).reshape(p.groups, n, self.initial).argmax(-1)
        p = engine.select(p, found + self.initial * torch.arange(n))
        chains = torch.arange(n).expand(p.groups, -1)
        p = replace(p, origin=chains, eve=chains)  # from here on a chain is its own ancestor
        rounds = (plan.nfe // (1 + engine.score_cost.looks) - self.initial * n) // n
        limit = self._limit(engine.ledger.budget, n, engine.steps, engine.rows_per_look, engine.score_cost)
        quota = (limit - self.initial * n) // (engine.steps * n)
        nothing = torch.full_like(p.reward, -torch.inf)
        return RBFState(
            p,
            candidate=p,
            threshold=p.scores,
            best=nothing,
            rollover=Rollover.start(p.level.shape, quota),
            rounds=rounds,
            draws=torch.zeros(engine.steps, dtype=torch.int64),
        )

    def step(self, engine: Engine, state: RBFState) -> RBFState:
        """One round: every chain draws one child."""
        assert state.candidate is not None
        assert state.rollover is not None
        last = engine.steps - 1
        if not state.rounds:
            return self._finish(engine, state)
        parent, n = state.particles, state.particles.n
        child = engine.score(engine.look(engine.propose(parent)))
        score, column = child.scores, torch.arange(n).expand(parent.groups, n)
        improves = score > state.best
        record = state.threshold
        if self.accept is None:
            accepted = score > record
        else:
            bars = torch.tensor(self.accept, dtype=torch.float64)
            accepted = score >= bars[child.level - 1]
        rollover = state.rollover.draw()
        accepted = accepted & (rollover.used >= self.min_draws)
        record = torch.where(accepted, torch.maximum(record, score), record)
        best = torch.where(improves, score, state.best)
        candidate = engine.gather([state.candidate, child], torch.where(improves, column + n, column))
        may_move = child.level < last  # at the last level all that remains is to draw
        forced = may_move & ~accepted & rollover.is_spent
        moves = (may_move & accepted) | forced
        takes = torch.where(may_move & accepted, column + n, torch.where(forced, column + 2 * n, column))
        current = engine.gather([parent, child, candidate], takes)
        if self.threshold == "parent":
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

    def _finish(self, engine: Engine, state: RBFState) -> RBFState:
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
