"""Rollover budget forcing: draw children until one improves, and roll what is saved over to the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import BudgetError, ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, check_count
from itscale.methods.drawing import THRESHOLDS, Chains, Passing, Threshold, check_moves, draw, finish, start
from itscale.values import ScoreCost


@dataclass(frozen=True, kw_only=True)
class RBF:
    """N chains that draw children one by one, and move on with the first that improves on their record.

    Each level has an equal quota of draws. A chain whose child scores higher than everything before moves on
    at once and takes the draws that it saved along; one that runs out of draws moves on with its best child.
    What is left is spent on the last level. All chains draw together, each at its own level.

    Cost: all of ``budget.nfe`` (up to less than a round), as many reward calls. It is a search: it stops on
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
    threshold: Threshold = "historical"
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
        check_moves("RBF", cost)
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

    def init(self, engine: Engine, plan: Plan) -> Chains:
        n, score = plan.particles, engine.score_cost
        rounds = (plan.nfe // (1 + score.looks) - self.initial * n) // n
        limit = self._limit(engine.ledger.budget, n, engine.steps, engine.rows_per_look, score)
        return start(engine, n, self.initial, rounds, (limit - self.initial * n) // (engine.steps * n))

    def step(self, engine: Engine, state: Chains) -> Chains:
        if not state.rounds:
            return finish(engine, state)
        return draw(engine, state, Passing(self.threshold, self.accept, self.min_draws))
