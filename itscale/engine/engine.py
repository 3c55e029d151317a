"""The verbs that every method is written in. The engine does the accounting; methods never do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale import particles as core
from itscale.budget import Ledger
from itscale.engine.messages import Near, Place, Scored
from itscale.engine.particles import Particles
from itscale.engine.watch import Watch
from itscale.errors import RewardError
from itscale.guides import Guide
from itscale.noise import Address, Noise, Purpose
from itscale.pools import OpenPool
from itscale.potentials import Potential
from itscale.process import ContinuousProcess, ExpertsProcess
from itscale.solvers import Kernel
from itscale.values import DENOISED_COST, ScoreCost


@dataclass(frozen=True)
class Final:
    """What a run hands over: host tensors, (g, n, ...)."""

    states: Tensor
    samples: Tensor
    held_out: Float64[Tensor, "g n"] | None


class Engine:
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

    def __init__(
        self,
        pool: OpenPool,
        *,
        kernel: Kernel,
        times: Float64[Tensor, " levels"],
        group_ids: Int64[Tensor, " g"],
        noise: Noise,
        ledger: Ledger,
        event_shape: tuple[int, ...],
        rows_per_look: int = 1,
        tilt: float = 1.0,
        has_reward: bool = True,
        has_gradient: bool = False,
        initial: Tensor | None = None,
        process: ContinuousProcess | None = None,
        score_cost: ScoreCost = DENOISED_COST,
    ) -> None:
        self.pool = pool
        self.kernel = kernel
        self.times = times
        self.group_ids = group_ids
        self.noise = noise
        self.ledger = ledger
        self.event_shape = event_shape
        self.rows_per_look = rows_per_look
        self.tilt = tilt
        self.has_reward = has_reward
        self.has_gradient = has_gradient
        self.initial = initial
        self.process = process
        self.score_cost = score_cost
        self.ancestors: list[Int64[Tensor, "g n"]] = []
        self.notes: dict[str, Any] = {}
        self.watch = Watch()
        self._last_place: tuple[tuple[int, int, int], Place] | None = None

    @property
    def groups(self) -> int:
        return len(self.group_ids)

    @property
    def steps(self) -> int:
        return self.times.shape[0] - 1

    def start(self, n: int, move: Int64[Tensor, " g"] | int = 0) -> Particles:
        """Draw n noises per group at level 0; ``move`` says how many random acts there were before."""
        p = Particles.first(None, self.groups, n)  # type: ignore[arg-type]
        constant = 0.0 if self.process is None else self.process.log_start
        p = replace(p, move=p.move + move, log_evidence=p.log_evidence + constant)
        is_first = self.initial is not None and not p.move.any()
        initial = (
            self.initial.reshape(-1, *self.event_shape) if is_first and self.initial is not None else None
        )
        return replace(p, rows=self.pool.call("start", self._place(p), initial), move=p.move + 1)

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
            population = (context.rows, context.value)
        rows, ratio, looks = self.pool.call(
            "propose",
            p.rows,
            _one_level(fields["level"] - 1),
            self._place(p, children),
            kernel=None if kernel is self.kernel else kernel,
            children=children,
            guide=guide,
            population=population,
            near=None if near is None else Near(near[0].rows, near[1].reshape(-1)),
            keep_noise=keep_noise,
        )
        if ratio is not None:
            fields["log_ratio"] = fields["log_ratio"] + ratio.reshape(fields["log_ratio"].shape)
        if looks is None:
            extra = self._extra_looks(kernel, p.level) * children
        else:
            extra = looks.reshape(p.groups, -1).sum(dim=1)
        if extra.any():
            self._charge_looks(extra)
        if recorded:
            self.ancestors.append(p.origin)
        fields["origin"] = torch.arange(p.n).repeat_interleave(children).expand(p.groups, -1)
        return replace(p, rows=rows, move=p.move + 1, **fields)

    def mutate(self, p: Particles, kernel: Kernel, guide: Guide | None = None) -> Particles:
        """Move every particle once within its level; what comes back is neither looked at nor scored.

        A jump in time: multistep solvers start afresh after it. ``guide`` as for ``propose``.
        """
        rows, ratio, _ = self.pool.call(
            "propose", p.rows, _one_level(p.level), self._place(p), kernel=kernel, guide=guide, stays=True
        )
        self._charge_looks(self._extra_looks(kernel, p.level))
        log_ratio = p.log_ratio if ratio is None else p.log_ratio + ratio.reshape(p.log_ratio.shape)
        return replace(
            p, rows=rows, move=p.move + 1, scored=torch.full_like(p.scored, -1), log_ratio=log_ratio
        )

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
        return replace(taken, move=q.move + 1)

    def look(self, p: Particles, gradient: bool = False) -> Particles:
        """Evaluate the model at rows that were not looked at yet: one NFE each.

        With ``gradient`` the reward is scored too and its gradient with respect to the state, through
        decoder and network, stays with the rows: a backward row each.
        """
        if gradient:
            rows, scored = self.pool.call("look_with_gradient", p.rows, _one_level(p.level), self._place(p))
            self._charge_looks(torch.full((p.groups,), p.n))
            self.ledger.charge(backward_rows=p.groups * p.n * self.rows_per_look)
            return self._take_scores(self._rated(replace(p, rows=rows)), scored)
        looked = self.pool.call("look", p.rows, _one_level(p.level), self._place(p))
        if looked is p.rows:
            return p
        self._charge_looks(torch.full((p.groups,), p.n))
        return self._rated(replace(p, rows=looked))

    def _rated(self, p: Particles) -> Particles:
        """Collect what a move along a composition's drift leaves to the weights, once its end is seen."""
        if self.process is None or not self.process.has_rates:
            return p
        rate: Tensor = self.pool.call("rates", p.rows, _one_level(p.level)).reshape(p.level.shape)
        if self.process.is_exact:
            return replace(p, log_ratio=p.log_ratio + rate)
        before = p.carry.get("rate", rate)
        since = p.carry.get("rate_level", p.level)
        share = self.process.rate_share
        gained = (self.times[p.level] - self.times[since]) * (share * before + (1 - share) * rate)
        carry = {**p.carry, "rate": rate, "rate_level": p.level}
        return replace(p, log_ratio=p.log_ratio + gained, carry=carry)

    def score(self, p: Particles, gradient: bool = False) -> Particles:
        """Score the denoised samples, or the states themselves on the last level.

        Before the last look the run's value may stand in for the reward of the denoised sample. A particle
        that was scored at its level keeps its score: a copy is never scored again, and neither is a sample
        that the last move took over unchanged from the denoised sample before it. With ``gradient`` the
        reward's gradient with respect to the denoised sample stays with the rows.
        """
        level = _one_level(p.level)
        final = isinstance(level, int) and level == self.steps
        if torch.equal(p.scored, p.level):
            return p
        if final and bool((p.scored == self.steps - 1).all()):
            return self._final_score(replace(p, scored=p.level))
        early = p.level < self.steps - 1
        if not self.score_cost.is_denoised and early.any():
            return self._score_ahead(p, level, early)
        if gradient and not final:
            rows, scored = self.pool.call("score_with_gradient", p.rows, level, self._place(p))
            return self._take_scores(replace(p, rows=rows), scored)
        keep = isinstance(level, int) and level >= self.steps - 1
        rows, scored = self.pool.call("score", p.rows, level, self._place(p), keep_samples=keep)
        return self._take_scores(replace(p, rows=rows), scored)

    def _score_ahead(self, p: Particles, level: int | Tensor, early: Tensor) -> Particles:
        """Score by the run's value, and pay for it."""
        cost = self.score_cost
        rows, scored = self.pool.call("score_ahead", p.rows, level, self._place(p), tilt=self.tilt)
        if cost.looks:
            self._charge_looks(early.sum(dim=1) * cost.looks)
        return self._take_scores(replace(p, rows=rows), scored, torch.where(early, cost.calls, 1))

    def denoised(self, p: Particles) -> Tensor:
        """Return the denoised samples (g, n, *event) on the host; the particles must have been looked at."""
        rows = self.pool.call("denoise", p.rows, _one_level(p.level))
        return rows.x.reshape(*p.level.shape, *rows.x.shape[1:]).cpu()

    def _take_scores(
        self, p: Particles, scored: Scored, asked: Int64[Tensor, "g n"] | None = None
    ) -> Particles:
        """Account for scores, and make values of them; ``asked`` samples a particle, None is one."""
        shape = p.level.shape
        level = _one_level(p.level)
        final = isinstance(level, int) and level == self.steps
        reward, valid, finite = (t.reshape(shape) for t in (scored.reward, scored.valid, scored.finite))
        calls = scored.calls.reshape(shape).sum(dim=1)
        samples = torch.full_like(calls, p.n) if asked is None else asked.sum(dim=1)
        self.ledger.charge(
            reward_calls=calls,
            decodes=samples,
            cached_rewards=int((samples - calls).sum()),
            invalid_rewards=int((~valid).sum()) if scored.invalid is None else scored.invalid,
        )
        self.ledger.charge(dead_states=self.watch.count_dead(finite, level))
        if not valid.any():
            reason = scored.reasons[0] if scored.reasons else "NaN or +inf"
            raise RewardError(f"the reward has no valid score for any of {valid.numel()} samples: {reason}")
        valid = valid & finite  # whatever a reward makes of a broken state, it is no score
        kept = p.reward.nan_to_num(0.0, neginf=-torch.inf)  # an invalid score keeps the last valid one
        reward = torch.where(valid, reward, p.reward)
        value = torch.where(valid, self._value(reward), self._value(kept))
        value = torch.where(finite, value, -torch.inf)
        p = replace(p, reward=reward, value=value, scored=p.level, valid=valid)
        if not final:
            self.watch.see_scores(reward)
        return self._final_score(p)

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
            gain = torch.where(p.level == self.steps, p.value - total, gain)
            carry = {**carry, "potential_memory": memory}
            clean = core.sanitize(gain).log_g
            carry = {**carry, "log_potential": total + clean}
            increment = increment + clean
        return replace(
            p,
            log_weights=p.log_weights + core.sanitize(increment).log_g,
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
        mask = rule(p.log_weights, int(p.level.max())) & ~core.is_dead(p.log_weights)
        if not mask.any():
            return replace(p, move=p.move + 1)
        self.watch.see_weights(p.log_weights, self.tilt)
        u = self.uniforms(p, Purpose.RESAMPLE, core.get_scheme(scheme).uniforms(p.n, p.n))
        done = core.adaptive(mask, p.log_weights, u, scheme)
        return self._resampled(p, done)

    def _resampled(self, p: Particles, done: core.Resampled) -> Particles:
        return replace(
            p.take(done.ancestors),
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
        return replace(kept, log_weights=weights, move=p.move + 1)

    def select(self, p: Particles, index: Int64[Tensor, "g m"]) -> Particles:
        """Keep the particles of ``index``, weights untouched."""
        return replace(p.take(index), move=p.move + 1)

    def thin(self, p: Particles, m: int) -> Particles:
        """Keep m particles, none twice, with weights that make the choice unbiased."""
        u = self.uniforms(p, Purpose.SELECT, core.tournament_size(p.n))
        kept = core.without_duplicates(core.normalise(p.log_weights), m, u)
        is_dead = core.is_dead(p.log_weights)
        gain = torch.where(is_dead, 0.0, core.log_mean_exp(p.log_weights))
        return replace(
            p.take(kept.kept),
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

    def is_noisy(self, level: int) -> bool:
        """Whether the move from this level separates copies."""
        return self.kernel.is_noisy(level)

    def jump(self, p: Particles) -> Particles:
        """Denoise the states as they stand: how a run ends when its time is over."""
        if bool((p.level == self.steps).all()):
            return p
        p = self.look(p)
        rows = self.pool.call("denoise", p.rows, _one_level(p.level))
        is_known = p.scored == p.level  # the score of its denoised sample, or a value that stood in for it
        is_composed = self.process is not None and self.process.has_rates
        if is_composed or not self.score_cost.is_denoised:
            is_known = is_known & (p.level == self.steps - 1)
        known = torch.where(is_known, self.steps - 1, -1)
        return replace(p, rows=rows, level=torch.full_like(p.level, self.steps), scored=known)

    def log_densities(self, p: Particles) -> Float64[Tensor, "g n experts"] | None:
        """What is known of every expert's log-density where the particles were last looked at, if any is."""
        if self.process is None or not self.process.remembers:
            return None
        assert isinstance(self.process, ExpertsProcess)
        memo = self.pool.call("memo", p.rows).reshape(*p.level.shape, -1)
        if largest := float(memo[..., len(self.process.subs)].max()):
            self.notes["largest kappa"] = max(largest, self.notes.get("largest kappa", 0.0))
        return memo[..., : len(self.process.subs)]

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

    def snapshot(self) -> dict[str, Any]:
        """Return what the engine remembers of a run, as plain values."""
        return {
            "ancestors": list(self.ancestors),
            "notes": dict(self.notes),
            "watch": self.watch.snapshot(),
            "ledger": self.ledger.snapshot(self.pool.counters()),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.ancestors = list(saved["ancestors"])
        self.notes = dict(saved["notes"])
        self.watch = Watch(**saved["watch"])
        self.ledger.restore(saved["ledger"])

    def _value(self, reward: Tensor) -> Tensor:
        return torch.zeros_like(reward) if self.tilt == 0 else self.tilt * reward

    def _final_score(self, p: Particles) -> Particles:
        """An invalid final score is -inf: a sample without a score cannot be handed out as a good one."""
        kept = p.valid | (p.level < self.steps)
        reward = torch.where(kept, p.reward, -torch.inf)
        return replace(p, reward=reward, value=torch.where(kept, p.value, -torch.inf))

    def _charge_looks(self, looks: Int64[Tensor, " g"]) -> None:
        self.ledger.charge(nfe=looks, model_rows=looks * self.rows_per_look)

    def _extra_looks(self, kernel: Kernel, level: Int64[Tensor, "g n"]) -> Int64[Tensor, " g"]:
        table = torch.tensor([kernel.extra_looks(k) for k in range(self.steps)])
        return table[level].sum(dim=1)

    def _place(self, p: Particles, children: int = 1) -> Place:
        g, n = p.level.shape
        if self._last_place is None or self._last_place[0] != (g, n, children):
            local = torch.arange(g).repeat_interleave(n * children)
            slot = torch.arange(n).repeat_interleave(children).repeat(g)
            draw = torch.arange(children).repeat(g * n)
            self._last_place = (
                (g, n, children),
                Place(Address(self.group_ids[local], local, slot, draw), local),
            )
        fixed = self._last_place[1]
        move = p.move.repeat_interleave(n * children)
        return Place(replace(fixed.address, move=move), fixed.group)

    def log_transition(self, p: Particles, target: Particles) -> Float64[Tensor, "g n"]:
        """Log-density of the move from each particle to its group's one in ``target``, up to a constant.

        The transition must be Gaussian and without memory; the model's outputs at p are at hand.
        """
        level = _one_level(p.level)
        found = self.pool.call("log_transition", p.rows, level, self._place(p), target.rows)
        return found.reshape(p.level.shape)

    def log_preference(
        self, p: Particles, q: Particles, kernel: Kernel, guide: Guide
    ) -> Float64[Tensor, "g n"]:
        """Log of how much likelier a guide makes the moves of a kernel from p to q, slot by slot: log q / p.

        The kernel must be Gaussian and without memory; p must have been looked at, with what the guide needs.
        """
        found = self.pool.call(
            "log_preference", p.rows, _one_level(p.level), self._place(p), q.rows, kernel, guide
        )
        return found.reshape(p.level.shape)

    def uniforms(self, p: Particles, purpose: Purpose, count: int) -> Float64[Tensor, "g count"]:
        """Uniforms of the groups' present move; a purpose may be used once a move."""
        zero = torch.zeros(p.groups, dtype=torch.int64)
        return self.noise.uniform(purpose, Address(self.group_ids, p.move, zero, zero), count)


def _one_level(level: Int64[Tensor, "g n"]) -> int | Tensor:
    """The level of all rows, or one per row where they differ."""
    first = int(level[0, 0])
    return first if bool((level == first).all()) else level.reshape(-1)
