"""How rows are moved: noise, guides, kernels, one micro-batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine.messages import Near, Place
from itscale.engine.remembered import Remembered
from itscale.engine.rows import Rows
from itscale.engine.worker_base import level_of
from itscale.engine.worker_compositions import CompositionWorker
from itscale.guides import Bridge, Context, Guide, View
from itscale.models.wrapper import is_uneven
from itscale.noise import Purpose
from itscale.process import Evaluation
from itscale.solvers import Kernel, Move, Surroundings, placed, shares_of
from itscale.types import sent


@dataclass
class MoveWorker(CompositionWorker):
    """Verbs that move rows."""

    @cached_property
    def bridge(self) -> Bridge:
        return Bridge.of(self.process, self.times)

    @torch.no_grad()
    def start(self, at: Place, initial: Tensor | None = None) -> Rows:
        """Scale unit noise to the first level; ``initial`` (rows, *event) replaces the drawn noise."""
        event = self.process.model.event_shape
        x = torch.empty(len(at), *event, dtype=self.dtype, device=self.device)
        for rows in self._chunks(len(at)):
            if initial is None:
                unit = self.noise.normal(Purpose.INITIAL, self._address(at, rows), event, self.dtype)
            else:
                unit = initial[rows].to(device=self.device, dtype=self.dtype)
            if self.process.prior is not None:
                unit = self.process.prior.spread(unit, self.noise, self._address(at, rows))
            x[rows] = self._begin(unit, at.group[rows])
        return Rows(x, memo=self._following.first_memo(x) if self.process.remembers else None)

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
        kept = Remembered(x)
        looks: Tensor | None = None
        if self.is_uneven:
            looks = self._inside = torch.zeros(total, 2, dtype=torch.int64)
        last = not stays and isinstance(level, int) and level == self.times.shape[0] - 2
        is_weighed = self.process.is_exact and not last and not stays
        ratio: Tensor | None = None
        if guide is not None or is_weighed or getattr(kernel, "weighs", False):
            ratio = torch.zeros(total, dtype=torch.float64, device=x.device)
        noise: Tensor | None = None
        memos: Tensor | None = None
        for part in self._chunks(total):
            for move, where, memory, change, z in self._moves(
                rows, level, at, part, kernel, children, guided, near, stays
            ):
                if move.looks is not None and not self.is_uneven:
                    looks = torch.zeros(total, dtype=torch.int64) if looks is None else looks
                    looks[where] = move.looks
                kept.put(where, memory)
                if isinstance(where, Tensor):
                    where = sent(where, x.device)
                x[where] = move.x
                if move.memo is not None:
                    memos = move.memo.new_empty(total, move.memo.shape[1]) if memos is None else memos
                    memos[where] = move.memo
                if keep_noise and z is not None:
                    noise = z.new_empty(total, *z.shape[1:]) if noise is None else noise
                    noise[where] = z
                if ratio is not None and change is not None:
                    ratio[where] = change
        samples = rows.samples if last and children == 1 else None  # x is the sample that was decoded already
        origin = rows.x.repeat_interleave(children, dim=0) if is_weighed else None
        moved = Rows(x, None, kept.history, samples, noise=noise, origin=origin, memo=memos, depth=kept.depth)
        return moved, None if ratio is None else ratio.cpu(), looks

    @torch.no_grad()
    def log_transition(self, rows: Rows, level: int, at: Place, target: Rows) -> Float64[Tensor, " rows"]:
        """Log-density, up to a constant, of the moves from rows to their group's row in ``target``."""
        found = torch.empty(len(rows), dtype=torch.float64, device=rows.x.device)
        for part in self._chunks(len(rows)):
            here = self._evaluation(rows, level, part)
            noise = _noise_between(self.kernel, here, level, target.x[sent(at.group[part], rows.x.device)])
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
        if isinstance(level, int) or (
            kernel.takes_levels and not self.bitwise and not self.process.remembers
        ):
            pieces: list[tuple[int | Tensor, slice | Tensor]] = [(level_of(level, part), part)]
        else:
            here, index = level[part], torch.arange(len(at))[part]
            pieces = [(int(k), index[here == k]) for k in here.unique()]
        if rows.depth is not None:
            pieces = list(_by_depth(pieces, level, rows.depth.repeat_interleave(children)))
        for k, chosen in pieces:
            source = chosen if children == 1 else torch.div(_indices(chosen), children, rounding_mode="floor")
            depth = len(rows.history) if rows.depth is None else int(rows.depths[source][0])
            if isinstance(source, Tensor):
                source = sent(source, rows.x.device)
            if rows.raw is None:
                assert getattr(kernel, "is_blind", False), "propose needs a look first"
                here = self.process.evaluation(rows.x[source], self._time(k), rows.x.new_empty(0))
            else:
                here = self._evaluation(rows, k, source)
            past = tuple(h[source] for h in rows.history[:depth])
            gradient = None if rows.gradient is None else rows.gradient[source]
            z, change = self._noise(kernel, here, k, at, chosen, guided, gradient)
            if near is not None and z is not None:
                z = near(z, source, chosen)
            step = k

            def look(
                y: Tensor, to: int | float, among: Tensor | None = None, chosen: slice | Tensor = chosen
            ) -> Evaluation:
                here = chosen if among is None else _indices(chosen)[among]
                self._count(here, to)
                return self._evaluate(y, to, at.group[here])

            move = placed(kernel, Surroundings(self.decode, at.group[chosen]))(here, past, step, look, z)
            if self.process.remembers:
                assert isinstance(k, int), "rows that remember are moved level by level"
                move = self._settled(here, move, k, is_own=kernel is self.kernel and not stays, stays=stays)
            if self.process.is_exact and not stays and isinstance(k, int) and k < self.times.shape[0] - 2:
                change = self._left(here, move) if change is None else change + self._left(here, move)
            if move.log_ratio is not None:
                change = move.log_ratio if change is None else change + move.log_ratio
            memory = move.memory
            if memory is None:
                memory = (here.denoised, *past) if kernel.history else ()
            yield move, chosen, memory[: kernel.history], change, z

    @cached_property
    def is_uneven(self) -> bool:
        """Whether looks take more network rows at some noise levels than at others."""
        return is_uneven(self.process.model)

    def _count(self, rows: slice | Tensor, to: int | float) -> None:
        """Count a look of rows inside their move, and the network rows that it takes."""
        if self.is_uneven:
            t = to if isinstance(to, float) else float(self.times[to])
            self._inside[rows] += torch.tensor([1, self.process.rows_at(t)])

    def _noise(
        self,
        kernel: Kernel,
        here: Evaluation,
        level: int | Tensor,
        at: Place,
        chosen: slice | Tensor,
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
        return guided.guide(View(here, level, gradient, group, self.bridge, self.decode, guided.context, pad))

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
            k = level_of(level, part)
            parts.append(self._outlook(self._evaluation(rows, k, part), k).flatten(1))
        return Context(torch.cat(parts).reshape(*value.shape, -1), value.to(rows.x.device))


@dataclass(frozen=True)
class _Guided:
    """A guide, with the population that it may learn from."""

    guide: Guide
    context: Context | None


def _by_depth(
    pieces: Iterable[tuple[int | Tensor, slice | Tensor]],
    level: int | Tensor,
    depth: Int64[Tensor, " rows"],
) -> Iterator[tuple[int | Tensor, Tensor]]:
    """Split pieces so that the rows of each remember as many tensors."""
    for k, chosen in pieces:
        here = depth[chosen]
        for count in here.unique():
            some = _indices(chosen)[here == count]
            yield k if isinstance(k, int) else level[some], some  # type: ignore[index]


def _indices(rows: slice | Tensor) -> Int64[Tensor, " rows"]:
    return torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def _no_look(*_: Any) -> Evaluation:
    raise AssertionError("a memoryless Gaussian transition needs no look inside its move")


def _noise_between(kernel: Kernel, here: Evaluation, level: int, there: Tensor) -> Tensor:
    """The standard normal noise with which a memoryless Gaussian kernel moves rows to where they are."""
    move = kernel(here, (), level, _no_look, None)
    assert isinstance(move.std, float), "a density needs a Gaussian transition"
    assert move.std > 0, "a density needs noise"
    return (there - move.x) / move.std


def _shared(z: Tensor, d: Tensor, shares: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return the component of several normals (rows, m, *event) along the shares, and the shift of each."""
    weights = torch.tensor(shares, dtype=z.dtype, device=z.device).reshape(-1, *(1,) * (d.ndim - 1))
    return (weights * z).sum(dim=1), weights * d[:, None]
