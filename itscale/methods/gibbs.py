"""Particle Gibbs: sweeps of conditional SMC around a retained path, each refining the last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, check_fraction, plan_particles
from itscale.noise import Purpose
from itscale.particles import (
    CONDITIONAL,
    conditional_ancestors,
    conditional_uniforms,
    draw_parent,
    effective_sample_size,
    is_dead,
    log_mean_exp,
)
from itscale.potentials import Difference


@dataclass(frozen=True)
class GibbsState(State):
    """A sweep under way.

    Attributes:
        sweep: its number; 0 is plain SMC.
        trail: the weighted populations at the levels so far.
        lineage: (g, n) per move, parents' slots in the population before.
        reference: the retained path, one particle per group at every level; empty in the first sweep.
        finished: last populations of the sweeps that are kept.
        latest: last population of the sweep before; None in the first.
    """

    sweep: int = 0
    trail: tuple[Particles, ...] = ()
    lineage: tuple[Int64[Tensor, "g n"], ...] = ()
    reference: tuple[Particles, ...] = ()
    finished: tuple[Particles, ...] = ()
    latest: Particles | None = None

    def ended(self, engine: Engine) -> Particles:
        """The sweeps that are over; in the first one, its particles as they stand."""
        if self.finished:
            return together(engine, self.finished)
        return super().ended(engine) if self.latest is None else self.latest


def together(engine: Engine, sweeps: tuple[Particles, ...]) -> Particles:
    """Join the particles of several sweeps."""
    count = sum(p.n for p in sweeps)
    return engine.gather(sweeps, torch.arange(count).expand(sweeps[0].groups, -1))


@dataclass(frozen=True, kw_only=True)
class ParticleGibbs:
    """SMC, then ``sweeps`` sweeps in which one path of the sweep before must survive among the others.

    Cost: N T NFE and reward calls for the start, (N - 1) T for each sweep. Target: the tilted law for any
    N >= 2 as sweeps are added, where plain SMC needs more particles; no evidence. The result holds the
    weighted particles of all sweeps after ``burn_in``, each sweep with the same total weight. States of one
    sweep are kept: T times the memory of SMC.

    Attributes:
        particles: N; None takes what the budget allows.
        sweeps: sweeps after the first.
        burn_in: sweeps, the first included, whose particles are not handed out.
        ancestor_sampling: let the retained path change its past at every resampling: it then moves even when
            all else has coalesced. Needs a Gaussian transition without memory; useful in few dimensions only,
            since transition densities differ by more the more dimensions there are.
        ess_threshold: resample when ESS < this share of N.
        scheme: ``"systematic"`` or ``"multinomial"``, in their conditional forms.

    Reference:
        Andrieu, Doucet and Holenstein (2010), "Particle Markov chain Monte Carlo methods"; Lindsten, Jordan
        and Schon (2014), "Particle Gibbs with Ancestor Sampling".
    """

    particles: int | None = None
    sweeps: int = 4
    burn_in: int = 1
    ancestor_sampling: bool = False
    ess_threshold: float = 0.5
    scheme: Literal["systematic", "multinomial"] = "systematic"
    has_lineage = False

    def __post_init__(self) -> None:
        check_count("particles", self.particles, 2)
        check_count("sweeps", self.sweeps)
        check_count("burn_in", self.burn_in, 0)
        check_fraction("ess_threshold", self.ess_threshold)
        if self.burn_in > self.sweeps:
            raise ConfigError(
                f"burn_in={self.burn_in} leaves none of {self.sweeps + 1} sweeps; lower it or add sweeps"
            )
        if self.scheme not in CONDITIONAL:
            raise ConfigError(f"scheme must be {' or '.join(CONDITIONAL)}, got {self.scheme!r}")

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, density=self.ancestor_sampling, memoryless=self.ancestor_sampling)

    @property
    def claim(self) -> Claim:
        return Claim("tilted", None)

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            looks = cost.steps * (n + self.sweeps * (n - 1))
            inside = sum(extra * n * (1 + self.sweeps) for extra in cost.extra_looks if extra > 0)
            # a look that is not made is not made at the particles that are looked at
            inside += sum(extra * (n + self.sweeps * (n - 1)) for extra in cost.extra_looks if extra < 0)
            return cost.plan(n, looks + inside, looks, looks - looks // cost.steps)

        return plan_particles(
            self.particles, 8, cost_of, budget, cost.rows_per_look, 2, shrink="sweeps or steps"
        )

    def init(self, engine: Engine, plan: Plan) -> GibbsState:
        return self._begin(engine, plan.particles, GibbsState(None))  # type: ignore[arg-type]

    def step(self, engine: Engine, state: GibbsState) -> GibbsState:
        if state.is_done:
            return state
        p, level = state.particles, int(state.particles.level[0, 0])
        if level == engine.steps:
            return self._begin(engine, p.n, state)
        index = torch.arange(p.n).expand(p.groups, -1)
        if engine.is_noisy(level):
            p, index = self._resample(engine, state, p, level)
        moved = engine.propose(p)
        state = replace(state, lineage=(*state.lineage, index))
        if level + 1 < engine.steps:
            return self._seen(engine, self._with_reference(engine, state, p, moved, level + 1), state)
        p = engine.weight(engine.score(moved), Difference())
        return self._end(engine, replace(state, particles=p, trail=(*state.trail, p)))

    def _begin(self, engine: Engine, n: int, state: GibbsState) -> GibbsState:
        """Start a sweep."""
        moves = 0 if state.particles is None else state.particles.move
        p = engine.start(n, moves)
        state = replace(state, trail=(), lineage=())
        return self._seen(engine, self._with_reference(engine, state, p, p, 0), state)

    def _seen(self, engine: Engine, p: Particles, state: GibbsState) -> GibbsState:
        p = engine.weight(p, Difference())
        return replace(state, particles=p, trail=(*state.trail, p))

    def _with_reference(
        self, engine: Engine, state: GibbsState, before: Particles, moved: Particles, level: int
    ) -> Particles:
        """Look and score, with the retained particle in slot 0 in place of the one that moved there."""
        if not state.reference:
            return engine.score(engine.look(moved))
        others = torch.arange(1, moved.n).expand(moved.groups, -1)
        seen = engine.score(engine.look(engine.select(moved, others)))
        parent = before.take(torch.zeros(moved.groups, 1, dtype=torch.int64))
        retained = replace(
            state.reference[level],
            log_weights=parent.log_weights,
            log_evidence=seen.log_evidence,
            carry=parent.carry,
            log_ratio=torch.zeros_like(parent.log_ratio),
        )
        return engine.gather([retained, seen], torch.arange(moved.n).expand(moved.groups, -1))

    def _resample(
        self, engine: Engine, state: GibbsState, p: Particles, level: int
    ) -> tuple[Particles, Int64[Tensor, "g n"]]:
        lw = p.log_weights
        mask = (effective_sample_size(lw) < self.ess_threshold * p.n) & ~is_dead(lw)
        kept = torch.arange(p.n).expand(p.groups, -1)
        if not mask.any():
            return replace(p, move=p.move + 1), kept
        parent = torch.zeros(p.groups, dtype=torch.int64)
        odds = lw
        if state.reference and self.ancestor_sampling:
            odds = lw + engine.log_transition(p, state.reference[level + 1])
        if not state.reference or self.ancestor_sampling:
            parent = draw_parent(odds, engine.uniforms(p, Purpose.SELECT, 1)[:, 0])
        u = engine.uniforms(p, Purpose.RESAMPLE, conditional_uniforms(p.n))
        index = torch.where(mask[:, None], conditional_ancestors(lw, parent, u, self.scheme), kept)
        taken = engine.select(p, index)
        gain = torch.where(mask, log_mean_exp(lw), 0.0)
        return (
            replace(
                taken,
                log_weights=torch.where(mask[:, None], 0.0, taken.log_weights),
                log_evidence=taken.log_evidence + gain,
            ),
            index,
        )

    def _end(self, engine: Engine, state: GibbsState) -> GibbsState:
        """Draw the path to retain, and go on to the next sweep or hand everything out."""
        p = state.particles
        line = draw_parent(p.log_weights, engine.uniforms(p, Purpose.ORDER, 1)[:, 0])[:, None]
        path = [p.take(line)]
        for population, index in zip(state.trail[-2::-1], state.lineage[::-1], strict=True):
            line = index.gather(1, line)
            path.append(population.take(line))
        total = torch.where(is_dead(p.log_weights), 0.0, log_mean_exp(p.log_weights))
        latest = replace(p, log_weights=p.log_weights - total[:, None])
        finished = (*state.finished, latest) if state.sweep >= self.burn_in else ()
        state = replace(
            state, sweep=state.sweep + 1, reference=tuple(path[::-1]), finished=finished, latest=latest
        )
        if state.sweep <= self.sweeps:
            return state
        return GibbsState(together(engine, finished), is_done=True)
