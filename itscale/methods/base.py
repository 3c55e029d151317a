"""What a method is: a frozen setting that plans its size and then steps a state to the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import BudgetError, ConfigError
from itscale.values import DENOISED_COST, ScoreCost


@dataclass(frozen=True)
class Needs:
    """What a method cannot do without; a lack is an error before any network call."""

    noise: bool = False
    reward: bool = True
    gradient: bool = False
    profile: bool = False
    memoryless: bool = False  # a solver that remembers nothing from step to step
    density: bool = False  # log-densities of transitions: a solver whose transition is Gaussian
    normal: bool = False  # normal noise, to push, to search in, or to stay near
    noise_start: bool = False  # starts from the process's own noise, among which it moves
    jumps: bool = False  # moves of its own beside the solver's, up to noise and down again
    likelihood: str = ""  # a reward that is a likelihood: of "any" operator, a "smooth" one, and of states up
    # to an affine map a "linear" or a "spectral" one, with Gaussian noise a "conjugate" one


@dataclass(frozen=True)
class Claim:
    """What a method promises about its weighted output.

    Attributes:
        target: ``"tilted"`` for p(x) exp(tilt * r(x)), ``"base"`` for p(x), None for search.
        evidence: ``"unbiased"`` if exp(log_evidence) has mean Z, ``"consistent"`` if it only tends to Z as
            particles are added, else None.
    """

    target: str | None
    evidence: str | None = None

    def __str__(self) -> str:
        names = {"tilted": "p(x) exp(tilt r(x))", "base": "p(x)", None: "none: it is a search"}
        return names[self.target]


@dataclass(frozen=True)
class Cost:
    """What moves cost under the solver of a run.

    Attributes:
        steps: T.
        extra_looks: per level, evaluations inside the move.
        noisy: per level, whether the move uses noise.
        rows_per_look: network rows per look.
        score: what a score before the last look costs.
        kappa: per level, the noise-to-signal ratio.
        has_reward, has_gradient: whether there is a reward, and a differentiable one.
        measurements: numbers in a measurement, where the reward is its likelihood.
        rows_at: per level, network rows of a look there; empty where all looks take ``rows_per_look``.
    """

    steps: int
    extra_looks: tuple[int, ...]
    noisy: tuple[bool, ...]
    rows_per_look: int = 1
    score: ScoreCost = DENOISED_COST
    kappa: tuple[float, ...] = ()
    has_reward: bool = True
    has_gradient: bool = False
    measurements: int = 0
    rows_at: tuple[int, ...] = ()

    def rows(self, level: int) -> int:
        """Network rows of a look at a level."""
        return self.rows_at[level] if self.rows_at else self.rows_per_look

    def trajectory_rows(self) -> int:
        """Most network rows of one particle from noise to data; looks inside moves count in full."""
        return sum(map(self.rows, range(self.steps))) + sum(self.extra_looks) * self.rows_per_look

    def trajectory(self) -> int:
        """NFE of one particle from noise to data."""
        return self.steps + sum(self.extra_looks)

    def plan(
        self,
        particles: int,
        nfe: int,
        scores: int,
        early: int,
        gradients: int = 0,
        rows: int | None = None,
    ) -> Plan:
        """Make a plan of looks and scores; ``early`` of the scores are made before the last look.

        Every method that scores there plans by this, so that it can run with any value. ``rows`` are the
        network rows of the looks, where a method knows at which levels it makes them.
        """
        ahead = early * self.score.looks
        if rows is not None:
            rows += ahead * self.rows_per_look
        return Plan(particles, nfe + ahead, scores + early * (self.score.calls - 1), gradients, rows)


@dataclass(frozen=True)
class Plan:
    """Sizes of a run and what it will cost per group.

    Attributes:
        gradients: those of the looks that also go backwards through the network; each counts for two more
            rows against ``Budget.model_rows``.
        rows: network rows forward; None where every look takes the same.
    """

    particles: int
    nfe: int
    reward_calls: int
    gradients: int = 0
    rows: int | None = None

    def model_rows(self, rows_per_look: int) -> int:
        """Rows through the network, as ``Budget.model_rows`` counts them."""
        forward = self.nfe * rows_per_look if self.rows is None else self.rows
        return forward + 2 * self.gradients * rows_per_look


@dataclass(frozen=True)
class State:
    """Everything a method needs to go on; saved as it is.

    Attributes:
        sizes: numbers of particles at the looks of the levels, as far as they are known; empty where the
            number never changes.
    """

    particles: Particles
    is_done: bool = False
    sizes: tuple[int, ...] = ()

    def size_ahead(self, level: int) -> int:
        """Number of particles that make the move from a level."""
        if not self.sizes:
            return self.particles.n
        return self.sizes[min(level + 1, len(self.sizes) - 1)]

    def ended(self, engine: Engine) -> Particles:
        """Hand over what there is when the run is cut short: by default the particles, as they stand.

        Costs no network call; rewards only for particles that were not scored where they are.
        """
        return as_they_stand(engine, self.particles)


class Method(Protocol):
    """A particle method. State goes in and comes out; nothing is kept on the method."""

    @property
    def needs(self) -> Needs: ...

    @property
    def claim(self) -> Claim: ...

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        """Size the run, or raise BudgetError naming the minimum and the setting to change."""
        ...

    def init(self, engine: Engine, plan: Plan) -> State: ...

    def step(self, engine: Engine, state: Any) -> State:
        """Go on from a state that ``init`` or ``step`` returned."""
        ...


def plan_particles(
    wanted: int | None,
    default: int,
    cost_of: Callable[[int], Plan],
    budget: Budget | None,
    rows_per_look: int,
    minimum: int = 1,
    shrink: str = "steps",
    unit: str = "particles",
) -> Plan:
    """Find the number of particles: the one asked for, the most the budget allows, or the default.

    Costs must not fall as particles are added.

    Raises:
        BudgetError: if the budget does not pay for ``wanted``, or for ``minimum``.
    """
    if wanted is not None and wanted < minimum:
        raise ConfigError(f"{unit} must be at least {minimum}, got {wanted}")

    def over(n: int) -> str | None:
        plan = cost_of(n)
        spends = {
            "nfe": plan.nfe,
            "model_rows": plan.model_rows(rows_per_look),
            "reward_calls": plan.reward_calls,
        }
        for what, amount in spends.items():
            limit = getattr(budget, what, None) if budget else None
            if limit is not None and amount > limit:
                return f"{n} {unit} need {what} = {amount} and budget.{what} is {limit}"
        return None

    if wanted is not None:
        if problem := over(wanted):
            raise BudgetError(f"{problem}: lower {unit} or {shrink}, or raise the budget")
        return cost_of(wanted)
    if problem := over(minimum):
        raise BudgetError(f"the budget is too small: at least {problem}; lower {shrink}, or raise the budget")
    if budget is None or (budget.nfe is None and budget.model_rows is None and budget.reward_calls is None):
        return cost_of(default)
    low, high = minimum, minimum + 1
    while over(high) is None:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if over(middle) else (middle, high)
    return cost_of(low)


def as_they_stand(engine: Engine, p: Particles) -> Particles:
    """Denoise every particle from its level, and score it if that was not done."""
    p = engine.jump(p)
    return engine.score(p) if engine.has_reward else p


def advance(engine: Engine, p: Particles, recorded: bool = True) -> Particles:
    """Move every particle once and look where it is, unless that is the end."""
    p = engine.propose(p, recorded=recorded)
    return p if int(p.level[0, 0]) == engine.steps else engine.look(p)


def forget_weights(p: Particles) -> Particles:
    """Give all particles equal weights, as a search hands them out."""
    return replace(p, log_weights=torch.zeros_like(p.log_weights))


def check_fraction(name: str, value: float) -> None:
    """Raise unless ``value`` is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be in [0, 1], got {value!r}")


def check_count(name: str, value: int | None, minimum: int = 1) -> None:
    """Raise unless ``value`` is None or a whole number of at least ``minimum``."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name} must be a whole number >= {minimum}, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{name} must be a number > 0, got {value!r}")
