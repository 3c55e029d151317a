"""The engine's verbs that move particles."""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine.engine_base import EngineBase
from itscale.engine.messages import Near
from itscale.engine.particles import Particles
from itscale.errors import ConfigError
from itscale.guides import Guide
from itscale.pools import Whole
from itscale.solvers import Kernel, LangevinMove


@functools.lru_cache(maxsize=32)
def parents_of(groups: int, n: int, children: int) -> Tensor:
    """The slot of every child's parent, (g, n m); for all to read and nobody to change."""
    return torch.arange(n).repeat_interleave(children).expand(groups, -1)


def _levels_of(p: Particles, children: int) -> int | Tensor:
    """The level of all children before they move, or one for each."""
    level = p.one_level
    return level if isinstance(level, int) or children == 1 else level.repeat_interleave(children)


class MoveVerbs(EngineBase):
    """Start, move, and what is known of the density of a move."""

    def start(self, n: int, move: Int64[Tensor, " g"] | int = 0) -> Particles:
        """Draw n noises per group at level 0; ``move`` says how many random acts there were before."""
        p = Particles.first(None, self.groups, n)  # type: ignore[arg-type]
        constant = 0.0 if self.process is None else self.process.log_start
        p = p.with_(move=p.move + move, log_evidence=p.log_evidence + constant)
        is_first = self.initial is not None and not p.move.any()
        initial = None
        if is_first and self.initial is not None:
            if n > self.initial.shape[1]:
                raise ConfigError(f"initial has noise for {self.initial.shape[1]} particles, not for {n}")
            initial = self.initial[:, :n].reshape(-1, *self.event_shape)
        return p.with_(rows=self.pool.later("start", self._place(p), initial), move=p.move + 1)

    def propose(
        self,
        p: Particles,
        kernel: Kernel | None = None,
        children: int = 1,
        guide: Guide | None = None,
        context: Particles | None = None,
        recorded: bool = True,
        near: tuple[Particles, Float64[Tensor, "g n*m"]] | None = None,
        keep_noise: bool = False,
    ) -> Particles:
        """Move every particle ``children`` times by one kernel step; child c of slot i is at i * m + c.

        ``guide`` adds to the noise of the move; its log p - log q is collected in ``log_ratio``. It may learn
        from ``context``, particles at the same level that exist before the move, by default ``p``. A move
        that is only tried, and may not count, is not ``recorded`` in the ancestry.

        With ``keep_noise`` rows hold the noise that moved them. ``near`` names particles that such a move
        made, one per particle of p, and a cosine c per child: its noise is ``c pivot + sqrt(1 - c^2) xi``.
        """
        kernel = kernel or self.kernel
        fields = p.repeat(children)
        fields["level"] = fields["level"] + 1
        population = None
        if guide is not None and guide.wants_context:
            context = context or p
            population = Whole((context.rows, context.value))
        given = ("propose", p.rows, _levels_of(p, children), self._place(p, children))
        how = {
            "kernel": None if kernel is self.kernel else kernel,
            "children": children,
            "near": None if near is None else Near(near[0].rows, near[1].reshape(-1)),
            "keep_noise": keep_noise,
        }
        if guide is None and self.is_silent(kernel):
            rows, ratio, looks = self.pool.later(*given, **how), None, None
        else:
            rows, ratio, looks = self.pool.call(*given, **how, guide=guide, population=population)
        if ratio is not None:
            fields["log_ratio"] = fields["log_ratio"] + ratio.reshape(fields["log_ratio"].shape)
        self._charge_inside(kernel, p, children, looks)
        if recorded:
            self.ancestors.append(p.origin)
        fields["origin"] = parents_of(p.groups, p.n, children)
        return p.with_(rows=rows, move=p.move + 1, **fields)

    def mutate(self, p: Particles, kernel: Kernel, guide: Guide | None = None) -> Particles:
        """Move every particle once within its level; what comes back is neither looked at nor scored.

        A jump in time: multistep solvers start afresh after it. ``guide`` as for ``propose``.
        """
        given = ("propose", p.rows, p.one_level, self._place(p))
        if guide is None and self.is_silent(kernel):
            rows, ratio, looks = self.pool.later(*given, kernel=kernel, stays=True), None, None
        else:
            rows, ratio, looks = self.pool.call(*given, kernel=kernel, guide=guide, stays=True)
        self._charge_inside(kernel, p, 1, None if looks is None or looks.ndim == 1 else looks)
        log_ratio = p.log_ratio if ratio is None else p.log_ratio + ratio.reshape(p.log_ratio.shape)
        return p.with_(rows=rows, move=p.move + 1, scored=torch.full_like(p.scored, -1), log_ratio=log_ratio)

    def langevin_ratio(self, p: Particles, q: Particles, kernel: LangevinMove) -> Float64[Tensor, "g n"]:
        """Log of the Metropolis ratio of Langevin moves from p to q, slot by slot; both were looked at.

        The process is that of a product whose experts know their densities.
        """
        level = p.one_level
        return self.pool.call("langevin_ratio", p.rows, q.rows, level, kernel).cpu().reshape(p.level.shape)

    def log_transition(self, p: Particles, target: Particles) -> Float64[Tensor, "g n"]:
        """Log-density of the move from each particle to its group's one in ``target``, up to a constant.

        The transition must be Gaussian and without memory; the model's outputs at p are at hand.
        """
        level = p.one_level
        found = self.pool.call("log_transition", p.rows, level, self._place(p), Whole(target.rows))
        return found.reshape(p.level.shape)

    def log_preference(
        self, p: Particles, q: Particles, kernel: Kernel, guide: Guide
    ) -> Float64[Tensor, "g n"]:
        """Log of how much likelier a guide makes the moves of a kernel from p to q, slot by slot: log q / p.

        The kernel must be Gaussian and without memory; p must have been looked at, with what the guide needs.
        """
        found = self.pool.call("log_preference", p.rows, p.one_level, self._place(p), q.rows, kernel, guide)
        return found.reshape(p.level.shape)
