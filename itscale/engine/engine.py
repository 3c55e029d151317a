"""The verbs that every method is written in. The engine does the accounting; methods never do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.engine.engine_moves import MoveVerbs
from itscale.engine.engine_scores import ScoreVerbs
from itscale.engine.engine_weights import WeightVerbs
from itscale.engine.particles import Particles


@dataclass(frozen=True)
class Final:
    """What a run hands over: host tensors, (g, n, ...)."""

    states: Tensor
    samples: Tensor
    held_out: Float64[Tensor, "g n"] | None


class Engine(MoveVerbs, ScoreVerbs, WeightVerbs):
    """Runs the verbs of particle methods on a pool and keeps the ledger.

    Attributes:
        steps: T, the number of moves; levels run from 0 to T.
        has_reward: whether anything can be scored.
        has_gradient: whether scores have a gradient.
        score_cost: what a score before the last look costs.
        ancestors: per move, and once at the end, the slot of every particle's ancestor in the population of
            the move before (of the first draw for the first move).
        notes: what the method says of its run, plain values by name.
        watch: what went wrong without stopping the run.
    """

    def jump(self, p: Particles) -> Particles:
        """Denoise the states as they stand: how a run ends when its time is over."""
        if bool((p.level == self.steps).all()):
            return p
        p = self.look(p)
        rows = self.pool.call("denoise", p.rows, p.one_level)
        is_known = p.scored == p.level  # the score of its denoised sample, or a value that stood in for it
        is_composed = self.process is not None and self.process.has_rates
        if is_composed or not self.score_cost.is_denoised:
            is_known = is_known & (p.level == self.steps - 1)
        known = torch.where(is_known, self.steps - 1, -1)
        return p.with_(rows=rows, level=torch.full_like(p.level, self.steps), scored=known)

    def samples(self, p: Particles) -> Tensor:
        """Bring the samples of particles home that are not the run's answer, (g, n, ...)."""
        _, samples, _, decoded = self.pool.call("finish", p.rows, self._place(p), judged=False)
        self.ledger.charge(decodes=decoded // p.groups)
        return samples.reshape(p.groups, p.n, *samples.shape[1:])

    def finish(self, p: Particles) -> Final:
        """Bring states, samples and held-out scores home."""
        self.ancestors.append(p.origin)
        states, samples, held_out, decoded = self.pool.call("finish", p.rows, self._place(p))
        self.ledger.charge(decodes=decoded // p.groups, **self.pool.counters())
        if held_out is not None:
            self.ledger.charge(held_out_calls=held_out.numel())

        def shaped(t: Tensor) -> Tensor:
            return t.reshape(p.groups, p.n, *t.shape[1:])

        return Final(shaped(states), shaped(samples), None if held_out is None else shaped(held_out))
