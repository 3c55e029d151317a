"""Verbs on the noises of whole runs: a particle is all the noise that makes a sample."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.ascent import Nesterov, Objective
from itscale.engine import noise_runs
from itscale.engine.engine import Engine
from itscale.engine.messages import Scored
from itscale.engine.particles import Particles
from itscale.engine.rows import Rows


@dataclass(frozen=True)
class NoiseSpace:
    """The engine's verbs for methods that search the noises of whole runs.

    Particles of this space have rows (rows, 1 + normals, *event): the initial noise, then those of all moves.
    ``run`` turns them into particles at the last level.
    """

    engine: Engine

    def draw(self, n: int) -> Particles:
        """Draw n noises per group: those with which n unguided particles would run."""
        engine = self.engine
        p = Particles.first(None, engine.groups, n)  # type: ignore[arg-type]
        rows = engine.pool.call("apply", noise_runs.draw, engine._place(p), engine.initial)
        return replace(p, rows=rows, move=p.move + 1 + engine.steps)

    def run(self, z: Particles) -> Particles:
        """Run the sampler from noises to samples, which are scored: a trajectory of NFE each."""
        call, place = self.engine.pool.call, self.engine._place(z)
        rows, scored, looks = call("apply", noise_runs.run, z.rows, place)
        return self._finished(z, rows, scored, looks)

    def run_and_return(self, z: Particles, recompute: bool) -> tuple[Particles, Particles]:
        """Run the sampler and differentiate the reward with respect to the noises, which keep the gradient.

        A trajectory of NFE each, and a backward row for each look. With ``recompute`` the looks of all steps
        but the last are made again on the way back, and charged.

        Returns:
            The noises, and the samples.
        """
        call, place = self.engine.pool.call, self.engine._place(z)
        noises, rows, scored, looks, again = call(
            "apply", noise_runs.run_and_return, z.rows, place, recompute
        )
        self.engine.ledger.charge(backward_rows=int(looks.sum()) * self.engine.rows_per_look)
        return replace(z, rows=noises), self._finished(z, rows, scored, looks + again)

    def _finished(self, z: Particles, rows: Rows, scored: Scored, looks: Tensor) -> Particles:
        self.engine._charge_looks(looks.reshape(z.groups, -1).sum(dim=1))
        p = replace(z, rows=rows, level=torch.full_like(z.level, self.engine.steps))
        return self.engine._take_scores(p, scored)

    def ascend(self, z: Particles, optimiser: Nesterov, objective: Objective, turn: int) -> Particles:
        """Move noises along the gradient of the objective; ``turn`` counts such moves."""
        call = self.engine.pool.call
        return replace(z, rows=call("apply", noise_runs.ascend, z.rows, optimiser, objective, turn))

    def scatter(self, z: Particles, children: int, scale: float) -> Particles:
        """Make children of every noise, each off by ``scale`` times a normal; child c of i is at i m + c."""
        call, place = self.engine.pool.call, self.engine._place(z, children)
        rows = call("apply", noise_runs.scatter, z.rows, place, children, scale)
        return replace(z, rows=rows, move=z.move + 1, **z.repeat(children))

    def slope(self, z: Particles, tried: Particles, weights: Float64[Tensor, "g n m"]) -> Particles:
        """Take ``sum_c weights_c (tried_c - z)`` for the gradient."""
        rows = self.engine.pool.call("apply", noise_runs.slope, z.rows, tried.rows, weights.flatten(0, 1))
        return replace(z, rows=rows)
