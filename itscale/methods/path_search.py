"""Search over paths: go back up to noise in several ways, come down again, keep the best, repeat."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, advance, check_count, plan_particles
from itscale.process import ContinuousProcess
from itscale.solvers import Solver, get_solver
from itscale.solvers.excursion import Excursion


@dataclass(frozen=True, kw_only=True)
class PathSearch:
    """N latents near the data; each goes up to noise M ways and down past where it was; the best N go on.

    The ODE takes N noises to the level ``start``. From there on a move to the next level is an excursion: the
    exact forward jump up by ``back`` in noise level, then ``descent`` steps of ``inner`` down to the next
    level, where the denoised samples are scored. The best N of all N M go on, whoever their parents are; the
    last look's denoised samples are the answer. What a latent scored is not kept: its children may be worse.

    Cost with one evaluation a step: N (first + rounds M (descent + 1)) NFE, N M rounds reward calls, where
    first is the level of ``start`` and rounds = T - 1 - first. It is a search: no target. It may run on an
    SDE up to ``start``, and comes down by the ODE all the same.

    Attributes:
        particles: N; None takes what the budget allows.
        children: M.
        start: where the search begins, as a share of the steps; at most the level before the last look.
        back: how far up, in the noise level of the linear path, ``sigma / (alpha + sigma)``.
        descent: steps down.
        inner: solver of the way down, or its name.

    Reference:
        Ma et al. (2025), "Inference-Time Scaling for Diffusion Models beyond Scaling Denoising Steps",
        arXiv:2501.09732, section 3.2. There all excursions go down by one length; here to the next level of
        the grid. Defaults are ours; ``paper()`` has the published ones.
    """

    particles: int | None = None
    children: int = 5
    start: float = 0.25
    back: float = 0.3
    descent: int = 2
    inner: str | Solver = "dpm++2m"

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("children", self.children)
        check_count("descent", self.descent)
        for name, value in (("start", self.start), ("back", self.back)):
            if not 0 < value < 1:
                raise ConfigError(f"{name} must be between 0 and 1, got {value!r}")
        get_solver(self.inner)

    @classmethod
    def paper(cls) -> PathSearch:
        """As published for a flow of images: 2 latents, from noise level 0.11 up to 0.89 in 5 ways each."""
        return cls(particles=2, start=0.89, back=0.78, descent=4)

    @property
    def needs(self) -> Needs:
        return Needs(normal=True, jumps=True)

    @property
    def claim(self) -> Claim:
        return Claim(None)

    def first(self, steps: int) -> int:
        """The level from which excursions start."""
        return max(1, min(math.floor(self.start * steps), steps - 2))

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for excursions that cannot be made on this grid."""
        steps = len(times) - 1
        if steps < 3:
            raise ConfigError(f"PathSearch needs at least 3 steps: before, during and after, got {steps}")
        if process.prior is not None:
            raise ConfigError(f"no noising step keeps the marginals of {process.prior!r}; use normal noise")
        for level in range(self.first(steps), steps - 1):
            self._excursion(process, times, level)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        first, last = self.first(cost.steps), cost.steps - 1
        tried = (last - first) * self.children
        inside = self.descent * get_solver(self.inner).evaluations
        early = max(0, last - first - 1) * self.children
        looks = first + sum(cost.extra_looks[:first]) + tried * (inside + 1) + cost.extra_looks[-1]
        return plan_particles(
            self.particles,
            2,
            lambda n: cost.plan(n, n * looks, n * tried, n * early),
            budget,
            cost.rows_per_look,
            shrink="children, descent or steps",
        )

    def init(self, engine: Engine, plan: Plan) -> State:
        return State(engine.look(engine.start(plan.particles)))

    def step(self, engine: Engine, state: State) -> State:
        p, level = state.particles, int(state.particles.level[0, 0])
        if level == engine.steps - 1:
            return State(engine.score(engine.propose(p)), is_done=True)
        first = self.first(engine.steps)
        if level < first:  # where the search begins nothing is judged, so nobody looks there
            return State(engine.propose(p) if level + 1 == first else advance(engine, p))
        assert engine.process is not None
        kernel = self._excursion(engine.process, engine.times, level)
        tried = engine.score(engine.look(engine.propose(p, kernel, children=self.children)))
        best = tried.scores.sort(dim=1, descending=True, stable=True).indices[:, : p.n]
        return State(engine.select(tried, best))

    def _excursion(self, process: ContinuousProcess, times: Tensor, level: int) -> Excursion:
        return Excursion.build(process, times, level, self.back, self.descent, get_solver(self.inner))
