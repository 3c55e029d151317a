"""The part of the engine that runs where the rows live: network, noise, kernels, decode, reward.

Everything large is made per micro-batch. ``torch.no_grad`` is set here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from itscale.engine.home_bound import HomeBound
from itscale.engine.messages import Place, Scored, sum_of_rows
from itscale.engine.rows import Rows
from itscale.engine.worker_base import cut, first_of, room_for
from itscale.engine.worker_moves import MoveWorker
from itscale.guides import Assessor, Prospect, Twist
from itscale.noise import Purpose
from itscale.solvers import Surroundings, placed


@dataclass
class Worker(MoveWorker):
    """Executes the engine's verbs on rows.

    Attributes:
        microbatch: model rows per network call; None chooses by the size of a state.
        bitwise: pad every network call to the full micro-batch, so that a row's result does not depend on
            how many rows came with it.
        compute: where the model is asked, if not on the device where the rows are held.
        origin: what the groups start from, (g, *event), where they start in the middle.
    """

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function of the engine where the rows live: it sees the worker first."""
        return function(self, *args, **kwargs)

    @torch.no_grad()
    def look(self, rows: Rows, level: int | Tensor, at: Place) -> tuple[Rows, Int64[Tensor, " rows"] | None]:
        """Evaluate the network at every row that was not looked at yet.

        Returns:
            The rows, and the looks made at each; None is one.
        """
        if rows.raw is not None:
            return rows, torch.zeros(len(rows), dtype=torch.int64)
        raw: Tensor | None = None
        if self.process.remembers and self._following.divergence is not None:
            return self._look_with_divergences(rows, level, at), None
        for part, k in self._parts(level, len(rows)):
            found = self._evaluate(cut(rows.x, part), k, cut(at.group, part)).raw
            raw = room_for(len(rows), found, rows.x.dtype) if raw is None else raw
            raw[part] = found
        return rows.with_(raw=raw), None

    @torch.no_grad()
    def look_with_gradient(self, rows: Rows, level: int | Tensor, at: Place) -> tuple[Rows, Scored]:
        """Evaluate network and reward at every row, and the reward's gradient through both."""
        raw: Tensor | None = None
        gradient = torch.empty_like(rows.x)
        values = torch.empty(len(rows), dtype=torch.float64, device=rows.x.device)
        for part, k in self._parts(level, len(rows), self._backward_chunk):
            with torch.enable_grad():
                x = rows.x[part].detach().requires_grad_()
                here = self._evaluate(x, k, at.group[part])
                if rows.memo is not None:
                    here = self.process.evaluation(x, here.t, here.raw, rows.memo[part])
                reward = self._raw_reward(self._outlook(here, k), k, at, part)
                gradient[part] = torch.autograd.grad(reward.sum(), x)[0]
            raw = room_for(len(rows), here.raw, rows.x.dtype) if raw is None else raw
            raw[part], values[part] = here.raw.detach(), reward.detach().double()
        return rows.with_(raw=raw, gradient=gradient), Scored.of(values, rows.x)

    @torch.no_grad()
    def look_with_twist(self, rows: Rows, level: int, at: Place, twist: Twist) -> tuple[Rows, Scored]:
        """Evaluate the network at every row, and a twist; what it adds to the denoised sample is kept."""
        raw: Tensor | None = None
        push = torch.empty_like(rows.x)
        values = torch.empty(len(rows), dtype=torch.float64, device=rows.x.device)
        decode = self.decode
        for part, _ in self._parts(level, len(rows), self._backward_chunk if twist.backward else None):
            with torch.enable_grad():
                x = rows.x[part].detach().requires_grad_(twist.backward > 0)
                here = self._evaluate(x, level, at.group[part])
                prospect = Prospect(
                    here,
                    level,
                    self.bridge,
                    decode,
                    lambda d, part=part: self._raw_rewards(d, level, at, part),
                    lambda count, part=part: self._normals(at, part, count),
                )
                values[part], push[part] = twist(prospect)
            raw = room_for(len(rows), here.raw, rows.x.dtype) if raw is None else raw
            raw[part] = here.raw.detach()
        return rows.with_(raw=raw, gradient=push), Scored.of(values, rows.x)

    @torch.no_grad()
    def assess(self, rows: Rows, level: int, at: Place, assessor: Assessor) -> Tensor:
        """A number per row, from its evaluation."""
        parts = []
        for part in self._chunks(len(rows)):
            here = placed(assessor, Surroundings(self.decode, at.group[part]))
            parts.append(here(self._evaluation(rows, level, part), level, self.bridge))
        return torch.cat(parts).double().cpu()

    def _raw_rewards(self, denoised: Tensor, level: int, at: Place, part: slice) -> Tensor:
        """Rewards of as many states per row as there are, row by row."""
        index = torch.arange(len(at))[part]
        return self._raw_reward(denoised, level, at, index.repeat_interleave(len(denoised) // len(index)))

    def _normals(self, at: Place, part: slice, count: int) -> Tensor:
        """Standard normals (rows, count, *event) for estimates at a look."""
        event = tuple(self.process.model.event_shape)
        return self.noise.normal(Purpose.VALUE, self._address(at, part), (count, *event), self.dtype)

    @torch.no_grad()
    def score(self, rows: Rows, level: int | Tensor, at: Place, *, keep_samples: bool) -> tuple[Rows, Scored]:
        """Score the denoised sample of every row, or the state itself on the last level."""
        assert self.reward is not None
        packed = torch.empty(3, len(rows), dtype=torch.float64, device=rows.x.device)
        calls, reasons = torch.zeros(len(rows), dtype=torch.int64), []
        kept: Tensor | None = None
        for part, k in self._parts(level, len(rows)):
            samples = self._decode(rows, k, part)
            done = self.reward.score(self._shown(samples), self._facts(k, at, part))
            packed[0, part], packed[1, part] = done.values.double(), done.valid.double()
            packed[2, part] = sum_of_rows(cut(rows.x, part))
            calls[first_of(part, done.calls)] = 1
            reasons.extend(r for r in done.reasons or () if r)
            if keep_samples:
                kept = room_for(len(rows), samples, samples.dtype, rows.x.device) if kept is None else kept
                kept[part] = samples
        reward, ok, alive = packed.cpu()  # the one copy to the host of a scored step
        scored = Scored(reward, ok.bool(), alive.isfinite(), calls, tuple(reasons[:8]))
        return rows.with_(samples=kept) if keep_samples else rows, scored

    @torch.no_grad()
    def score_with_gradient(self, rows: Rows, level: int | Tensor, at: Place) -> tuple[Rows, Scored]:
        """Score the denoised sample of every row, with the reward's gradient with respect to it."""
        assert rows.raw is not None, "score needs a look first"
        gradient = torch.empty_like(rows.x)
        values = torch.empty(len(rows), dtype=torch.float64, device=rows.x.device)
        for part, k in self._parts(level, len(rows), self._backward_chunk):
            here = self._evaluation(rows, k, part)
            with torch.enable_grad():
                denoised = self._outlook(here, k).detach().requires_grad_()
                reward = self._raw_reward(denoised, k, at, part)
                gradient[part] = torch.autograd.grad(reward.sum(), denoised)[0]
            values[part] = reward.detach().double()
        return rows.with_(gradient=gradient), Scored.of(values, rows.x)

    @torch.no_grad()
    def denoise(self, rows: Rows, level: int | Tensor) -> Rows:
        """Put the denoised sample in place of every state."""
        assert rows.raw is not None, "denoise needs a look first"
        x = torch.empty_like(rows.x)
        for part, k in self._parts(level, len(rows)):
            x[part] = self._evaluation(rows, k, part).denoised
        return Rows(x, memo=rows.memo)

    @torch.no_grad()
    def finish(
        self, rows: Rows, at: Place, *, judged: bool = True
    ) -> tuple[Tensor, Tensor, Tensor | None, int]:
        """Return final states, samples and held-out scores on the host, and how many rows were decoded."""
        last = self.times.shape[0] - 1
        judge = self.held_out if judged else None
        brought = HomeBound()
        scores: list[Tensor] = []
        for part in self._chunks(len(rows)):  # a micro-batch of samples is all that the device has to hold
            samples = self._decode(rows, last, part) if rows.samples is None else rows.samples[part]
            if judge is not None:
                done = judge.score(self._shown(samples.to(self.compute)), self._facts(last, at, part))
                scores.append(torch.where(done.valid, done.values, torch.nan))
            brought.add(samples)
        held_out = None if judge is None else torch.cat(scores).double().cpu()
        return rows.x.cpu(), brought.all(), held_out, len(rows) if rows.samples is None else 0
