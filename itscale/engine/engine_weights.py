"""The engine's verbs that weigh particles and pick among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale import particles as core
from itscale.engine.engine_base import EngineBase
from itscale.engine.particles import Particles
from itscale.noise import Purpose
from itscale.potentials import Potential


def _sane(increment: Float64[Tensor, "g n"]) -> Float64[Tensor, "g n"]:
    """Increments without NaN and +inf, which are rare."""
    if (increment.numpy() < np.inf).all():  # no comparison with NaN holds
        return increment
    return core.sanitize(increment).log_g


class WeightVerbs(EngineBase):
    """Weigh, resample, choose, gather: particles change places, nothing is evaluated."""

    def weight(self, p: Particles, potential: Potential | None = None) -> Particles:
        """Multiply the weights by the potential at the value just scored, and by log p / q of the move.

        Without a potential only the move's log ratio counts. On the last level the factor is
        ``tilt * r(x_1)`` minus the sum of log G along the particle's own ancestry.
        """
        increment = p.log_ratio
        carry = p.carry
        if potential is not None:
            total = carry.get("log_potential", torch.zeros_like(p.value))
            memory = carry.get("potential_memory", torch.full_like(p.value, potential.initial))
            gain, memory = potential(p.value, memory)
            if not isinstance(p.one_level, int):
                gain = torch.where(p.level == self.steps, p.value - total, gain)
            elif p.one_level == self.steps:
                gain = p.value - total
            clean = _sane(gain)
            carry = {**carry, "potential_memory": memory, "log_potential": total + clean}
            increment = increment + clean
        return p.with_(
            log_weights=p.log_weights + _sane(increment),
            log_ratio=torch.zeros_like(p.log_ratio),
            carry=carry,
        )

    def resample(
        self, p: Particles, rule: Any, scheme: str = "systematic", n: int | None = None
    ) -> Particles:
        """Resample the groups that the rule picks; the others carry their weights on.

        If ``n`` is another number of particles than there are, every group is resampled to it.
        """
        if n is not None and n != p.n:
            u = self.uniforms(p, Purpose.RESAMPLE, core.get_scheme(scheme).uniforms(p.n, n))
            return self._resampled(p, core.resample(p.log_weights, u, scheme, n))
        mask = rule(p.log_weights, int(p.level.numpy().max()))
        if mask.numpy().any():
            mask = mask & ~core.is_dead(p.log_weights)
        if not mask.numpy().any():
            return p.with_(move=p.move + 1)
        self.watch.see_weights(p.log_weights, self.tilt)
        u = self.uniforms(p, Purpose.RESAMPLE, core.get_scheme(scheme).uniforms(p.n, p.n))
        done = core.adaptive(mask, p.log_weights, u, scheme)
        return self._resampled(p, done)

    def _resampled(self, p: Particles, done: core.Resampled) -> Particles:
        return p.take(done.ancestors).with_(
            log_weights=done.log_weights,
            log_evidence=p.log_evidence + done.log_evidence_increment,
            move=p.move + 1,
        )

    def choose(self, p: Particles, children: int, *, argmax: bool = False, correct: bool = True) -> Particles:
        """Keep one of ``children`` per parent, in proportion to weight, or the heaviest.

        With ``correct`` the parent's weight takes up the children's mean weight, which keeps the evidence
        unbiased (nested SMC); without it weights are dropped (the soft value method as published).
        """
        parents = p.n // children
        u = self.uniforms(p, Purpose.SELECT, parents)
        picked = core.select_children(p.log_weights.reshape(p.groups, parents, children), u, argmax=argmax)
        kept = p.take(picked.child + children * torch.arange(parents))
        weights = picked.log_mean if correct else torch.zeros_like(picked.log_mean)
        return kept.with_(log_weights=weights, move=p.move + 1)

    def select(self, p: Particles, index: Int64[Tensor, "g m"]) -> Particles:
        """Keep the particles of ``index``, weights untouched."""
        return p.take(index).with_(move=p.move + 1)

    def thin(self, p: Particles, m: int) -> Particles:
        """Keep m particles, none twice, with weights that make the choice unbiased."""
        u = self.uniforms(p, Purpose.SELECT, core.tournament_size(p.n))
        kept = core.without_duplicates(core.normalise(p.log_weights), m, u)
        is_dead = core.is_dead(p.log_weights)
        gain = torch.where(is_dead, 0.0, core.log_mean_exp(p.log_weights))
        return p.take(kept.kept).with_(
            log_weights=torch.where(is_dead[:, None], -torch.inf, kept.log_weights),
            log_evidence=p.log_evidence + gain,
            move=p.move + 1,
        )

    def gather(self, populations: Sequence[Particles], index: Int64[Tensor, "g m"]) -> Particles:
        """Keep particles of several populations of the same groups; columns are counted across them."""
        flat, offset = [], 0
        for p in populations:
            flat.append(offset + torch.arange(p.groups * p.n).reshape(p.groups, p.n))
            offset += p.groups * p.n
        chosen = torch.cat(flat, 1).gather(1, index).reshape(-1)
        rows = self.pool.join([p.rows for p in populations]).take(chosen)
        return Particles.merge(populations, index, rows)

    def accept(self, p: Particles, q: Particles, log_ratio: Float64[Tensor, "g n"]) -> Particles:
        """Replace particles of p by those of q with probability ``min(1, exp(log_ratio))`` (Metropolis).

        How many were, of how many, is in the notes ``"moves accepted"`` and ``"moves tried"``.
        """
        u = self.uniforms(q, Purpose.ACCEPT, p.n)
        is_taken = u.log() < log_ratio
        column = torch.arange(p.n).expand(p.groups, -1)
        taken = self.gather([p, q], torch.where(is_taken, column + p.n, column))
        for name, count in (("moves accepted", int(is_taken.sum())), ("moves tried", is_taken.numel())):
            self.notes[name] = self.notes.get(name, 0) + count
        return taken.with_(move=q.move + 1)
