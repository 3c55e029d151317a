"""The part of the engine that runs where the rows live: network, noise, kernels, decode, reward.

Everything large is made per micro-batch. ``torch.no_grad`` is set here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine.messages import Near, Place, Scored, finite_rows
from itscale.engine.rows import Rows
from itscale.errors import ConfigError
from itscale.guides import Bridge, Context, Guide, View
from itscale.noise import Address, Noise, Purpose
from itscale.process import (
    ComposedEvaluation,
    ComposedProcess,
    ContinuousProcess,
    Evaluation,
    ExpertsEvaluation,
    ExpertsProcess,
)
from itscale.scoring import Reward
from itscale.solvers import Kernel, Move, shares_of
from itscale.types import expand_over_event


@dataclass
class Worker:
    """Executes the engine's verbs on rows.

    Attributes:
        microbatch: model rows per network call; None chooses by the size of a state.
        bitwise: pad every network call to the full micro-batch, so that a row's result does not depend on
            how many rows came with it.
    """

    process: ContinuousProcess
    kernel: Kernel
    times: Float64[Tensor, " levels"]
    noise: Noise
    reward: Reward | None
    held_out: Reward | None
    conditions: Sequence[Any]
    dtype: torch.dtype
    microbatch: int | None = None
    bitwise: bool = False
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        model = self.process.model
        encoded = model.encode(self.conditions)
        self.encoded = None if encoded is None else encoded.to(self.device)
        microbatch = self.microbatch or _default_microbatch(model.event_shape)
        self.chunk = max(1, microbatch // model.rows_per_look)
        self.padding_rows = 0
        self.network_calls = 0

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function of the engine where the rows live: it sees the worker first."""
        return function(self, *args, **kwargs)

    @torch.no_grad()
    def start(self, at: Place, initial: Tensor | None = None) -> Rows:
        """Scale unit noise to the first level; ``initial`` (rows, *event) replaces the drawn noise."""
        event = self.process.model.event_shape
        x = torch.empty(len(at), *event, dtype=self.dtype, device=self.device)
        noisiest = float(self.times[0])
        for rows in self._chunks(len(at)):
            if initial is None:
                unit = self.noise.normal(Purpose.INITIAL, self._address(at, rows), event, self.dtype)
            else:
                unit = initial[rows].to(device=self.device, dtype=self.dtype)
            if self.process.prior is not None:
                unit = self.process.prior.spread(unit, self.noise, self._address(at, rows))
            x[rows] = self.process.begin(unit, noisiest)
        return Rows(x, memo=self._following.first_memo(x) if self.process.remembers else None)

    @cached_property
    def bridge(self) -> Bridge:
        return Bridge.of(self.process, self.times)

    @torch.no_grad()
    def look(self, rows: Rows, level: int | Tensor, at: Place) -> Rows:
        """Evaluate the network at every row that was not looked at yet."""
        if rows.raw is not None:
            return rows
        raw: Tensor | None = None
        if self.process.remembers and self._following.divergence is not None:
            return self._look_with_divergences(rows, level, at)
        for part, k in self._parts(level, len(rows)):
            found = self._evaluate(rows.x[part], k, at.group[part]).raw
            raw = _room(len(rows), found, rows.x.dtype) if raw is None else raw
            raw[part] = found
        return rows.with_(raw=raw)

    def _look_with_divergences(self, rows: Rows, level: int | Tensor, at: Place) -> Rows:
        """Evaluate all experts, and note the divergences of their scores: one probe for all of them."""
        process, memo = self._following, _present(rows.memo)
        raw: Tensor | None = None
        noted = torch.empty_like(memo)
        for part, k in self._parts(level, len(rows), self._backward_chunk):
            probe = None
            if process.divergence == "hutchinson":
                event = tuple(rows.x.shape[1:])
                probe = self.noise.normal(Purpose.DIVERGENCE, self._address(at, part), event, rows.x.dtype)
                probe = torch.where(probe < 0, -1.0, 1.0).to(probe)
            with torch.enable_grad():
                x = rows.x[part].detach().requires_grad_()
                here = self._evaluate(x, k, at.group[part])
                assert isinstance(here, ExpertsEvaluation)
                noted[part] = process.noted(here, x, memo[part], probe).detach()
            raw = _room(len(rows), here.raw, rows.x.dtype) if raw is None else raw
            raw[part] = here.raw.detach()
        return rows.with_(raw=raw, memo=noted)

    @property
    def _following(self) -> ExpertsProcess:
        """The process, where it follows log-densities of experts."""
        assert isinstance(self.process, ExpertsProcess)
        return self.process

    def memo(self, rows: Rows) -> Float64[Tensor, "rows memo"]:
        """What rows remember of their paths, on the host."""
        return _present(rows.memo).cpu()

    @torch.no_grad()
    def rates(self, rows: Rows, level: int | Tensor) -> Float64[Tensor, " rows"]:
        """What a composition adds to the log-weights of rows that were looked at.

        The growth per unit of time; or, with exact weights, the part of the last move that its end decides.
        """
        process, found = self.process, []
        assert isinstance(process, ComposedProcess)
        for part, k in self._parts(level, len(rows)):
            here = self._evaluation(rows, k, part)
            assert isinstance(here, ComposedEvaluation)
            if not process.is_exact:
                found.append(here.rate())
            elif rows.origin is None:
                found.append(process.log_ratio_at_start(here.x))
            else:
                assert isinstance(level, int), "exact weights need all rows at one level"
                found.append(process.arrive(here, rows.origin[part], float(self.times[level - 1])))
        return torch.cat([f.cpu() for f in found])

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
            raw = _room(len(rows), here.raw, rows.x.dtype) if raw is None else raw
            raw[part], values[part] = here.raw.detach(), reward.detach().double()
        return rows.with_(raw=raw, gradient=gradient), Scored.of(values, rows.x)

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

    def _raw_reward(self, denoised: Tensor, level: int | Tensor, at: Place, part: Any) -> Tensor:
        assert self.reward is not None
        return self.reward.raw(self.process.model.decode(denoised), self._facts(level, at, part))

    @torch.no_grad()
    def propose(
        self,
        rows: Rows,
        level: int | Tensor,
        at: Place,
        *,
        kernel: Kernel | None = None,
        children: int = 1,
        guide: Guide | None = None,
        population: tuple[Rows, Float64[Tensor, "g n"]] | None = None,
        stays: bool = False,
        near: Near | None = None,
        keep_noise: bool = False,
    ) -> tuple[Rows, Float64[Tensor, " rows"] | None, Int64[Tensor, " rows"] | None]:
        """Move every row ``children`` times by one kernel step; ``stays`` if it ends at the level it began.

        Args:
            guide: adds to the noise of the moves.
            population: rows and values that the guide may learn from, all at the rows' level.
            near: where the noise is to lie.
            keep_noise: leave it with the rows.

        Returns:
            The moved rows, not looked at; log p - log q per row where the noise was shifted; looks inside
            the move per row where the kernel decides on them as it goes.
        """
        kernel = kernel or self.kernel
        guided = None if guide is None else _Guided(guide, self._context(level, population))
        total = len(at)
        x = torch.empty(total, *rows.x.shape[1:], dtype=rows.x.dtype, device=rows.x.device)
        history: tuple[Tensor, ...] | None = None
        looks: Tensor | None = None
        last = not stays and isinstance(level, int) and level == self.times.shape[0] - 2
        is_weighed = self.process.is_exact and not last and not stays
        ratio: Tensor | None = None
        if guide is not None or is_weighed:
            ratio = torch.zeros(total, dtype=torch.float64, device=x.device)
        noise: Tensor | None = None
        memos: Tensor | None = None
        for part in self._chunks(total):
            for move, where, memory, change, z in self._moves(
                rows, level, at, part, kernel, children, guided, near, stays
            ):
                x[where] = move.x
                if move.memo is not None:
                    memos = move.memo.new_empty(total, move.memo.shape[1]) if memos is None else memos
                    memos[where] = move.memo
                if keep_noise and z is not None:
                    noise = z.new_empty(total, *z.shape[1:]) if noise is None else noise
                    noise[where] = z
                if history is None:
                    history = tuple(torch.empty_like(x) for _ in memory)
                for target, source in zip(history, memory, strict=True):
                    target[where] = source
                if ratio is not None and change is not None:
                    ratio[where] = change
                if move.looks is not None:
                    looks = torch.zeros(total, dtype=torch.int64) if looks is None else looks
                    looks[where] = move.looks
        samples = rows.samples if last and children == 1 else None  # x is the sample that was decoded already
        origin = rows.x.repeat_interleave(children, dim=0) if is_weighed else None
        moved = Rows(x, None, history or (), samples, noise=noise, origin=origin, memo=memos)
        return moved, None if ratio is None else ratio.cpu(), looks

    @torch.no_grad()
    def score(self, rows: Rows, level: int | Tensor, at: Place, *, keep_samples: bool) -> tuple[Rows, Scored]:
        """Score the denoised sample of every row, or the state itself on the last level."""
        assert self.reward is not None
        packed = torch.empty(3, len(rows), dtype=torch.float64, device=rows.x.device)
        calls, reasons, decoded = torch.zeros(len(rows), dtype=torch.int64), [], []
        for part, k in self._parts(level, len(rows)):
            samples = self._decode(rows, k, part)
            done = self.reward.score(samples, self._facts(k, at, part))
            packed[0, part], packed[1, part] = done.values.to(packed), done.valid.to(packed)
            packed[2, part] = finite_rows(rows.x[part]).to(packed)
            calls[part] = (torch.arange(len(done.values)) < done.calls).long()
            reasons.extend(r for r in done.reasons or () if r)
            if keep_samples:
                decoded.append(samples)
        reward, ok, alive = packed.cpu()  # the one copy to the host of a scored step
        scored = Scored(reward, ok.bool(), alive.bool(), calls, tuple(reasons[:8]))
        return rows.with_(samples=torch.cat(decoded)) if keep_samples else rows, scored

    @torch.no_grad()
    def log_transition(self, rows: Rows, level: int, at: Place, target: Rows) -> Float64[Tensor, " rows"]:
        """Log-density, up to a constant, of the moves from rows to their group's row in ``target``."""
        found = torch.empty(len(rows), dtype=torch.float64, device=rows.x.device)
        for part in self._chunks(len(rows)):
            here = self._evaluation(rows, level, part)
            noise = _noise_between(self.kernel, here, level, target.x[at.group[part].to(rows.x.device)])
            found[part] = -noise.flatten(1).double().square().sum(1) / 2
        return found.cpu()

    @torch.no_grad()
    def log_preference(
        self, rows: Rows, level: int, at: Place, target: Rows, kernel: Kernel, guide: Guide
    ) -> Float64[Tensor, " rows"]:
        """Log of how much likelier the guide makes the kernel's moves from rows to ``target``, row by row."""
        guided = _Guided(guide, None)
        found = torch.empty(len(rows), dtype=torch.float64, device=rows.x.device)
        for part in self._chunks(len(rows)):
            here = self._evaluation(rows, level, part)
            noise = _noise_between(kernel, here, level, target.x[part])
            gradient = None if rows.gradient is None else rows.gradient[part]
            d = self._shift(guided, here, level, at.group[part], gradient)
            found[part] = (d * (noise - d / 2)).flatten(1).sum(dim=1, dtype=torch.float64)
        return found.cpu()

    @torch.no_grad()
    def denoise(self, rows: Rows, level: int | Tensor) -> Rows:
        """Put the denoised sample in place of every state."""
        assert rows.raw is not None, "denoise needs a look first"
        x = torch.empty_like(rows.x)
        for part, k in self._parts(level, len(rows)):
            x[part] = self._evaluation(rows, k, part).denoised
        return Rows(x, memo=rows.memo)

    @torch.no_grad()
    def finish(self, rows: Rows, at: Place) -> tuple[Tensor, Tensor, Tensor | None, int]:
        """Return final states, samples and held-out scores on the host, and how many rows were decoded."""
        last = self.times.shape[0] - 1
        decoded = 0
        if rows.samples is None:
            decoded = len(rows)
            parts = [self._decode(rows, last, part) for part in self._chunks(len(rows))]
            rows = rows.with_(samples=torch.cat(parts))
        assert rows.samples is not None
        held_out = None
        if self.held_out is not None:
            scores = [
                self.held_out.score(rows.samples[p], self._facts(last, at, p))
                for p in self._chunks(len(rows))
            ]
            held_out = torch.cat([torch.where(s.valid, s.values, torch.nan) for s in scores]).double().cpu()
        return rows.x.cpu(), rows.samples.cpu(), held_out, decoded

    def _moves(
        self,
        rows: Rows,
        level: int | Tensor,
        at: Place,
        part: slice,
        kernel: Kernel,
        children: int,
        guided: _Guided | None,
        near: Near | None,
        stays: bool = False,
    ) -> Iterator[tuple[Move, Any, tuple[Tensor, ...], Tensor | None, Tensor | None]]:
        """Move one micro-batch; kernels that take one level at a time see the rows level by level.

        Yields the move, its rows, what they remember from now on, their log p - log q, and their noise.
        """
        index = torch.arange(len(at))[part]
        if isinstance(level, int) or (
            kernel.takes_levels and not self.bitwise and not self.process.remembers
        ):
            pieces: list[tuple[int | Tensor, Tensor, Any]] = [(_part(level, part), index, part)]
        else:
            here = level[part]
            pieces = [(int(k), index[here == k], index[here == k]) for k in here.unique()]
        for k, chosen, where in pieces:
            source = where if children == 1 else torch.div(chosen, children, rounding_mode="floor")
            if rows.raw is None:
                assert getattr(kernel, "is_blind", False), "propose needs a look first"
                here = self.process.evaluation(rows.x[source], self.times[k], rows.x.new_empty(0))
            else:
                here = self._evaluation(rows, k, source)
            past = tuple(h[source] for h in rows.history)
            gradient = None if rows.gradient is None else rows.gradient[source]
            z, change = self._noise(kernel, here, k, at, chosen, guided, gradient)
            if near is not None and z is not None:
                z = near(z, source, chosen)
            group = at.group[chosen]
            step = k

            def look(
                y: Tensor, to: int | float, among: Tensor | None = None, group: Tensor = group
            ) -> Evaluation:
                return self._evaluate(y, to, group if among is None else group[among])

            move = kernel(here, past, step, look, z)
            if self.process.remembers:
                assert isinstance(k, int), "rows that remember are moved level by level"
                move = self._settled(here, move, k, is_own=kernel is self.kernel and not stays, stays=stays)
            if self.process.is_exact and isinstance(k, int) and k < self.times.shape[0] - 2:
                change = self._left(here, move) if change is None else change + self._left(here, move)
            memory = move.memory
            if memory is None:
                memory = (here.denoised, *past) if kernel.history else ()
            yield move, where, memory[: kernel.history], change, z

    def _settled(self, here: Evaluation, move: Move, level: int, *, is_own: bool, stays: bool) -> Move:
        """Complete a move of rows that remember their path; the last one, a jump, adds nothing to it."""
        process, last = self._following, self.times.shape[0] - 1
        to = level if stays else level + 1
        if is_own and to == last:
            assert isinstance(here, ExpertsEvaluation)
            return replace(move, memo=here.memo)
        ahead = float(self.times[to])
        if not is_own:
            return replace(move, memo=process.memo_at(move.x, ahead))
        assert isinstance(here, ExpertsEvaluation)
        x, memo = process.settle(here, move.x, ahead)
        return replace(move, x=x, memo=memo)

    def _left(self, here: Evaluation, move: Move) -> Float64[Tensor, " rows"]:
        """The part of a move's exact weight that its start decides."""
        assert isinstance(self.process, ComposedProcess)
        if move.z is None or not isinstance(move.std, float) or not move.std:
            raise ConfigError(
                "weights='kernel' needs a solver whose transition is Gaussian, such as 'ancestral', and noise"
            )
        return self.process.leave(here, move.z, move.std)

    def _noise(
        self,
        kernel: Kernel,
        here: Evaluation,
        level: int | Tensor,
        at: Place,
        chosen: Tensor,
        guided: _Guided | None,
        gradient: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        levels = [level] if isinstance(level, int) else level.unique().tolist()
        if not any(kernel.is_noisy(k) for k in levels):
            return None, None
        shares = shares_of(kernel, level) if isinstance(level, int) else None
        event = tuple(here.x.shape[1:]) if shares is None else (len(shares), *here.x.shape[1:])
        z = self.noise.normal(Purpose.MOVE, self._address(at, chosen), event, here.x.dtype)
        if guided is None:
            return z, None
        d = self._shift(guided, here, level, at.group[chosen], gradient)
        along, spread = (z, d) if shares is None else _shared(z, d, shares)
        # Proposing z = d + xi in place of xi: log p - log q = -d.xi - |d|^2 / 2, exact for any kernel.
        change = -(d * (along + d / 2)).flatten(1).sum(dim=1, dtype=torch.float64)
        return z + spread, change

    def _shift(
        self, guided: _Guided, here: Evaluation, level: int | Tensor, group: Tensor, gradient: Tensor | None
    ) -> Tensor:
        pad = self.chunk if self.bitwise else None
        return guided.guide(View(here, level, gradient, group, self.bridge, guided.context, pad))

    def _context(
        self, level: int | Tensor, population: tuple[Rows, Float64[Tensor, "g n"]] | None
    ) -> Context | None:
        """The denoised samples and values of a population, as guides see them; samples are their own."""
        if population is None:
            return None
        rows, value = population
        if rows.raw is None:
            return Context(rows.x.flatten(1).reshape(*value.shape, -1), value.to(rows.x.device))
        parts = []
        for part in self._chunks(len(rows)):
            k = _part(level, part)
            parts.append(self._outlook(self._evaluation(rows, k, part), k).flatten(1))
        return Context(torch.cat(parts).reshape(*value.shape, -1), value.to(rows.x.device))

    def _decode(self, rows: Rows, level: int | Tensor, part: Any) -> Tensor:
        """Samples of a part of the rows, whose level is given."""
        if isinstance(level, int) and level == self.times.shape[0] - 1:
            return self.process.model.decode(rows.x[part])
        assert rows.raw is not None, "score needs a look first"
        here = self._evaluation(rows, level, part)
        return self.process.model.decode(self._outlook(here, level))

    def _outlook(self, here: Evaluation, level: int | Tensor) -> Tensor:
        """The sample that a reward judges: what is expected, and at the last look what the jump will make."""
        if not self.process.has_rates:
            return here.denoised
        is_last = torch.as_tensor(level) >= self.times.shape[0] - 2
        if bool(is_last.all()):
            return here.denoised
        return torch.where(expand_over_event(is_last, here.x).bool(), here.denoised, here.expected)

    def _evaluation(self, rows: Rows, level: int | Tensor, part: Any) -> Evaluation:
        """Read what a look has left with a part of the rows, whose level is given."""
        memo = None if rows.memo is None else rows.memo[part]
        return self.process.evaluation(rows.x[part], self.times[level], _present(rows.raw)[part], memo)

    def _evaluate(self, x: Tensor, level: int | float | Tensor, group: Tensor) -> Evaluation:
        """Call the network once on at most one micro-batch, at levels or at a time between them (float)."""
        condition = None if self.encoded is None else self.encoded[group.to(self.encoded.device)]
        time = torch.tensor(level, dtype=torch.float64) if isinstance(level, float) else self.times[level]
        real = x.shape[0]
        missing = self.chunk - real if self.bitwise else 0
        self.network_calls += 1
        if missing <= 0 or x.requires_grad:  # rows go backwards one by one where bits count
            return self.process.evaluate(x, time, condition)
        self.padding_rows += missing * self.process.model.rows_per_look
        fill = torch.zeros(missing, dtype=torch.int64, device=x.device)
        padded = torch.cat([x, x[fill]])
        time_rows = time if time.ndim == 0 else torch.cat([time, time[fill.cpu()]])
        condition = None if condition is None else torch.cat([condition, condition[fill]])
        done = self.process.evaluate(padded, time_rows, condition)
        return self.process.evaluation(x, time, done.raw[:real])

    @property
    def _backward_chunk(self) -> int:
        """Rows that go backwards together: matrix products on the way back round by a row's position."""
        return 1 if self.bitwise else self.chunk

    def _chunks(self, total: int, size: int | None = None) -> Iterator[slice]:
        size = size or self.chunk
        for start in range(0, total, size):
            yield slice(start, min(start + size, total))

    def _parts(
        self, level: int | Tensor, total: int, size: int | None = None
    ) -> Iterator[tuple[Any, int | Tensor]]:
        """Yield parts of the rows with their level, one per row where rows differ.

        Where bits count a part has one level: factors that differ by row round in another way.
        """
        if isinstance(level, int) or not self.bitwise:
            yield from ((part, _part(level, part)) for part in self._chunks(total, size))
            return
        for k in level.unique().tolist():
            yield from ((part, k) for part in (level == k).nonzero()[:, 0].split(size or self.chunk))

    def _address(self, at: Place, rows: slice | Tensor) -> Address:
        a = at.address[rows]
        if torch.device(self.device).type == "cpu":
            return a
        return Address(*(f.to(self.device, non_blocking=True) for f in (a.group, a.move, a.slot, a.draw)))

    def _facts(self, level: int | Tensor, at: Place, part: Any) -> dict[str, Any]:
        """What a reward may ask for at a part of the rows, whose level is given."""
        return {
            "step": level,
            "t": self.times[level],
            "is_final": level == self.times.shape[0] - 1,
            "conditions": [self.conditions[i] for i in at.group[part].tolist()],
        }


@dataclass(frozen=True)
class _Guided:
    """A guide, with the population that it may learn from."""

    guide: Guide
    context: Context | None


def _no_look(*_: Any) -> Evaluation:
    raise AssertionError("a memoryless Gaussian transition needs no look inside its move")


def _noise_between(kernel: Kernel, here: Evaluation, level: int, there: Tensor) -> Tensor:
    """The standard normal noise with which a memoryless Gaussian kernel moves rows to where they are."""
    move = kernel(here, (), level, _no_look, None)
    assert isinstance(move.std, float), "a density needs a Gaussian transition"
    assert move.std > 0, "a density needs noise"
    return (there - move.x) / move.std


def _room(rows: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty tensor for what the network returns for all rows."""
    return torch.empty(rows, *like.shape[1:], dtype=dtype, device=like.device)


def _present(raw: Tensor | None) -> Tensor:
    assert raw is not None, "a look comes first"
    return raw


def _shared(z: Tensor, d: Tensor, shares: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return the component of several normals (rows, m, *event) along the shares, and the shift of each."""
    weights = torch.tensor(shares, dtype=z.dtype, device=z.device).reshape(-1, *(1,) * (d.ndim - 1))
    return (weights * z).sum(dim=1), weights * d[:, None]


def _part(level: int | Tensor, part: slice) -> int | Tensor:
    return level if isinstance(level, int) else level[part]


def _default_microbatch(event: tuple[int, ...]) -> int:
    """A power of two, so that a micro-batch of states is about half a megabyte: 128 for 28 x 28 pixels."""
    rows = max(32, min(4096, 2**17 // max(1, math.prod(event))))
    return 1 << (rows.bit_length() - 1)
