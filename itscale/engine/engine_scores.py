"""The engine's verbs that look and score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine.engine_base import EngineBase
from itscale.engine.messages import Scored
from itscale.engine.particles import Particles
from itscale.errors import RewardError
from itscale.guides import Assessor, Twist
from itscale.particles import normalise
from itscale.process import ComposedProcess, ExpertsProcess


class ScoreVerbs(EngineBase):
    """Look at the model, score samples, and account for both."""

    def look(self, p: Particles, gradient: bool = False, twist: Twist | None = None) -> Particles:
        """Evaluate the model at rows that were not looked at yet: one NFE each.

        With ``gradient`` the reward is scored too and its gradient with respect to the state, through
        decoder and network, stays with the rows: a backward row each. A ``twist`` scores in place of the
        reward, and what it adds to the denoised sample stays with the rows as their gradient.
        """
        if twist is not None:
            rows, scored = self.pool.call(
                "look_with_twist", p.rows, int(p.level[0, 0]), self._place(p), twist
            )
            self._charge_looks(torch.full((p.groups,), p.n), self._rows(p))
            self.ledger.charge(backward_rows=int(self._rows(p).sum()) * twist.backward)
            scored = replace(scored, calls=scored.calls * twist.calls)
            return self._take_scores(p.with_(rows=rows), scored, torch.full_like(p.level, twist.calls))
        if gradient:
            rows, scored = self.pool.call("look_with_gradient", p.rows, p.one_level, self._place(p))
            self._charge_looks(torch.full((p.groups,), p.n), self._rows(p))
            self.ledger.charge(backward_rows=int(self._rows(p).sum()))
            return self._take_scores(self._rated(p.with_(rows=rows)), scored)
        if p.rows.is_looked_at:
            return p
        given = ("look", p.rows, p.one_level, self._place(p))
        if self.looks_once:
            looked = self.pool.later(*given, is_look=True)
            self._charge_looks(torch.full((p.groups,), p.n), self._rows(p))
        else:  # of tokens only what is new is looked at
            looked, looks = self.pool.call(*given)
            made = looks.reshape(p.level.shape)
            self._charge_looks(made.sum(dim=1), (made * self.rows_at[p.level]).sum(dim=1))
        return self._rated(p.with_(rows=looked))

    def _rated(self, p: Particles) -> Particles:
        """Collect what a move along a composition's drift leaves to the weights, once its end is seen."""
        if self.process is None or not self.process.has_rates:
            return p
        level = p.one_level
        found: Tensor = self.pool.call("rates", p.rows, level)
        rate, virial = (column.reshape(p.level.shape) for column in found.unbind(1))
        if self.process.is_exact:
            is_there = (
                p.carry.get("rate_level", torch.full_like(p.level, -1)) == p.level
            )  # moved within a level
            gained = torch.where(is_there, 0.0, rate)
            carry = {**p.carry, "rate_level": p.level, "virial": virial, "gained": p.log_ratio + gained}
            return p.with_(log_ratio=p.log_ratio + gained, carry=carry)
        if self.process.is_fitted:
            gauge = self._fitted(p, rate, virial)
            p = p.with_(rows=self.pool.call("gauged", p.rows, gauge.reshape(-1)))
            rate = rate + gauge * virial
        before = p.carry.get("rate", rate)
        since = p.carry.get("rate_level", p.level)
        share = self.process.rate_share
        gained = (self.times[p.level] - self.times[since]) * (share * before + (1 - share) * rate)
        carry = {**p.carry, "rate": rate, "rate_level": p.level, "virial": virial, "gained": gained}
        return p.with_(log_ratio=p.log_ratio + gained, carry=carry)

    def _fitted(self, p: Particles, rate: Tensor, virial: Tensor) -> Float64[Tensor, "g n"]:
        """The gauge that leaves the weights' rate the least variance within every group.

        A group of one or two particles, or of several levels, takes the usual one.
        """
        level = p.one_level
        assert isinstance(self.process, ComposedProcess)
        usual = self.process.terms_at(self.times[level]).h
        if not isinstance(level, int):
            return usual.reshape(p.level.shape)
        weights = normalise(p.log_weights + p.log_ratio)
        centred = virial - (weights * virial).sum(dim=1, keepdim=True)  # over particles
        variance = (weights * centred**2).sum(dim=1, keepdim=True)
        slope = (weights * centred * rate).sum(dim=1, keepdim=True) / variance
        is_fit = slope.isfinite() & (p.n > 2)
        return torch.where(is_fit, -slope, usual).expand(p.level.shape)

    def score(self, p: Particles, gradient: bool = False) -> Particles:
        """Score the denoised samples, or the states themselves on the last level.

        Before the last look the run's value may stand in for the reward of the denoised sample. A particle
        that was scored at its level keeps its score: a copy is never scored again, and neither is a sample
        that the last move took over unchanged from the denoised sample before it. With ``gradient`` the
        reward's gradient with respect to the denoised sample stays with the rows.
        """
        level = p.one_level
        final = isinstance(level, int) and level == self.steps
        if torch.equal(p.scored, p.level):
            return p
        if final and bool((p.scored == self.steps - 1).all()):
            return self._final_score(p.with_(scored=p.level))
        early = p.level < self.steps - 1
        if not self.score_cost.is_denoised and early.any():
            return self._score_ahead(p, level, early)
        if gradient and not final:
            rows, scored = self.pool.call("score_with_gradient", p.rows, level, self._place(p))
            return self._take_scores(p.with_(rows=rows), scored)
        keep = isinstance(level, int) and level >= self.steps - 1
        rows, scored = self.pool.call("score", p.rows, level, self._place(p), keep_samples=keep)
        return self._take_scores(p.with_(rows=rows), scored)

    def _score_ahead(self, p: Particles, level: int | Tensor, early: Tensor) -> Particles:
        """Score by the run's value, and pay for it."""
        cost = self.score_cost
        rows, scored = self.pool.call("score_ahead", p.rows, level, self._place(p), tilt=self.tilt)
        if cost.looks:
            self._charge_looks(early.sum(dim=1) * cost.looks)
        return self._take_scores(p.with_(rows=rows), scored, torch.where(early, cost.calls, 1))

    def assess(self, p: Particles, assessor: Assessor) -> Float64[Tensor, "g n"]:
        """Return a number per particle, found where the rows live; all are at one level and were looked
        at."""
        found = self.pool.call("assess", p.rows, int(p.level[0, 0]), self._place(p), assessor)
        return found.reshape(p.level.shape)

    def denoised(self, p: Particles) -> Tensor:
        """Return the denoised samples (g, n, *event) on the host; the particles must have been looked at."""
        rows = self.pool.home(self.pool.call("denoise", p.rows, p.one_level))
        return rows.x.reshape(*p.level.shape, *rows.x.shape[1:])

    def log_densities(self, p: Particles) -> Float64[Tensor, "g n experts"] | None:
        """What is known of every expert's log-density where the particles were last looked at, if any is."""
        if self.process is None or not self.process.remembers:
            return None
        assert isinstance(self.process, ExpertsProcess)
        memo = self.pool.call("memo", p.rows).reshape(*p.level.shape, -1)
        if largest := float(memo[..., len(self.process.subs)].max()):
            self.notes["largest kappa"] = max(largest, self.notes.get("largest kappa", 0.0))
        return memo[..., : len(self.process.subs)]

    def _take_scores(
        self, p: Particles, scored: Scored, asked: Int64[Tensor, "g n"] | None = None
    ) -> Particles:
        """Account for scores, and make values of them; ``asked`` samples a particle, None is one."""
        shape = p.level.shape
        level = p.one_level
        final = isinstance(level, int) and level == self.steps
        reward, valid, finite = (t.reshape(shape) for t in (scored.reward, scored.valid, scored.finite))
        calls = scored.calls.numpy().reshape(shape).sum(axis=1)
        samples = np.full_like(calls, p.n) if asked is None else asked.numpy().sum(axis=1)
        invalid = valid.numel() - int(np.count_nonzero(valid.numpy()))
        self.ledger.charge(
            reward_calls=torch.from_numpy(calls),
            decodes=torch.from_numpy(samples),
            cached_rewards=int((samples - calls).sum()),
            invalid_rewards=invalid if scored.invalid is None else scored.invalid,
        )
        dead = self.watch.count_dead(finite, level)
        self.ledger.charge(dead_states=dead)
        if invalid == valid.numel():
            reason = scored.reasons[0] if scored.reasons else "NaN or +inf"
            raise RewardError(f"the reward has no valid score for any of {invalid} samples: {reason}")
        value = self._value(reward)
        if invalid or dead:
            valid = valid & finite  # whatever a reward makes of a broken state, it is no score
            kept = p.reward.nan_to_num(0.0, neginf=-torch.inf)  # an invalid score keeps the last valid one
            reward = torch.where(valid, reward, p.reward)
            value = torch.where(valid, value, self._value(kept))
            value = torch.where(finite, value, -torch.inf)
        p = p.with_(reward=reward, value=value, scored=p.level, valid=valid)
        if not final:
            self.watch.see_scores(reward)
        return self._final_score(p)

    def _value(self, reward: Tensor) -> Tensor:
        return torch.zeros_like(reward) if self.tilt == 0 else self.tilt * reward

    def _final_score(self, p: Particles) -> Particles:
        """An invalid final score is -inf: a sample without a score cannot be handed out as a good one."""
        if p.valid.numpy().all():
            return p
        kept = p.valid | (p.level < self.steps)
        reward = torch.where(kept, p.reward, -torch.inf)
        return p.with_(reward=reward, value=torch.where(kept, p.value, -torch.inf))
