"""The worker of masked models: rows are tokens, moves draw them, complete rows need no look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine.messages import Near, Place
from itscale.engine.rows import Rows
from itscale.engine.valued import ValuedWorker
from itscale.engine.worker_base import present
from itscale.guides import Guide
from itscale.noise import Purpose

if TYPE_CHECKING:
    from itscale.decoders import TokenKernel
    from itscale.process.tokens import TokenEvaluation, TokenProcess


@dataclass
class TokenWorker(ValuedWorker):
    """Executes the engine's verbs on sequences. The level before the last is that of complete sequences."""

    @property
    def _masked(self) -> TokenProcess:
        return cast("TokenProcess", self.process)

    @torch.no_grad()
    def start(self, at: Place, initial: Tensor | None = None) -> Rows:
        """Begin with what is given, and nothing else visible."""
        kernel = cast("TokenKernel", self.kernel)
        space = self._masked.tokens
        x = self._masked.begin(at.group).to(self.device)
        hidden = space.hides(x)
        if space.noise == "uniform":
            address = self._address(at, torch.arange(len(at)))
            drawn = self.noise.uniform(Purpose.INITIAL, address, x.shape[1]).mul_(space.size).long()
            x = torch.where(hidden, space.offset + drawn, x)
        memo = getattr(kernel, "first_memo", None)
        address = self._address(at, torch.arange(len(at)))

        def uniforms(count: int) -> Float64[Tensor, "rows count"]:
            return self.noise.uniform(Purpose.INITIAL, address, count)

        return Rows(x, memo=None if memo is None else memo(x, hidden, uniforms))

    @torch.no_grad()
    def look(self, rows: Rows, level: int | Tensor, at: Place) -> tuple[Rows, Int64[Tensor, " rows"] | None]:
        """Evaluate the network at rows that hide something and were not looked at as they are."""
        nothing = torch.zeros(len(rows), dtype=torch.int64)
        if rows.raw is not None and rows.known is None:
            return rows, nothing
        known = (
            rows.known
            if rows.known is not None
            else torch.zeros(len(rows), dtype=torch.bool, device=rows.x.device)
        )
        needed = self._masked.tokens.hides(rows.x).any(dim=1) & ~known
        asked = needed.nonzero()[:, 0]
        raw = rows.raw
        if len(asked):
            row_times = getattr(self.kernel, "row_times", None)
            for part, k in self._asked(asked, level):
                memo = None if row_times is None or rows.memo is None else row_times(rows.memo[part])
                found = self._evaluate(rows.x[part], k if memo is None else memo, at.group[part.cpu()]).raw
                if raw is None:
                    raw = found.new_zeros(len(rows), *found.shape[1:])
                raw[part] = found
        if raw is None:  # all are complete, and nothing will be read
            process = self._masked
            experts = () if process.powers is None else (len(process.powers),)
            shape = (len(rows), *experts, process.length, process.tokens.size)
            raw = torch.zeros((), device=rows.x.device).expand(shape)
        return rows.with_(raw=raw, known=None), needed.long().cpu()

    def _asked(self, asked: Tensor, level: int | Tensor) -> Iterator[tuple[Tensor, int | Tensor]]:
        """Micro-batches of the rows to look at, with their level."""
        for part in asked.split(self.chunk):
            if isinstance(level, int):
                yield part, level
            elif not self.bitwise:
                yield part, level[part.cpu()]
            else:
                here = level[part.cpu()]
                yield from ((part[here == k], k) for k in here.unique().tolist())

    @torch.no_grad()
    def propose(
        self,
        rows: Rows,
        level: int | Tensor,
        at: Place,
        *,
        kernel: Any = None,
        children: int = 1,
        guide: Guide | None = None,
        population: Any = None,
        stays: bool = False,
        near: Near | None = None,
        keep_noise: bool = False,
    ) -> tuple[Rows, Float64[Tensor, " rows"] | None, Int64[Tensor, " rows"] | None]:
        """Move every row ``children`` times; rows that come out unchanged keep their logits."""
        assert guide is None, "a guide pushes normal noise"
        assert near is None, "tokens have no noise to stay near"
        move_rows = cast("TokenKernel", kernel or self.kernel)
        total = len(at)
        x = torch.empty(total, rows.x.shape[1], dtype=torch.int64, device=self.device)
        source = torch.arange(total, device=self.device) // children
        raw = present(rows.raw)
        ratio: Tensor | None = None
        memo: Tensor | None = None
        looks = torch.zeros(total, dtype=torch.int64)
        for chosen, k in self._moved(level, total, children):
            here = cast("TokenEvaluation", self._evaluation(rows, k, source[chosen]))
            u = self._uniforms(at, chosen)
            if k == self.times.shape[0] - 2:  # complete but for a run that was cut short
                x[chosen] = here.denoised
                found = None if here.memo is None else here.memo
            else:
                move = move_rows(here, k, u)
                x[chosen], found = move.x, move.memo
                if move.log_ratio is not None:
                    ratio = torch.zeros(total, dtype=torch.float64) if ratio is None else ratio
                    ratio[chosen.cpu()] = move.log_ratio.double().cpu()
                looks[chosen.cpu()] = (
                    max(0, move_rows.extra_looks(k)) if move.looks is None else move.looks.cpu()
                )
            if found is not None:
                memo = found.new_empty(total, found.shape[1]) if memo is None else memo
                memo[chosen] = found
        last = isinstance(level, int) and level == self.times.shape[0] - 2
        samples = rows.samples if last and children == 1 else None
        is_same = (x == rows.x[source]).all(dim=1)
        keeps = not self._masked.takes_time and bool(is_same.any())
        return (
            Rows(
                x,
                raw[source] if keeps else None,
                samples=samples,
                memo=memo,
                known=is_same if keeps else None,
            ),
            ratio,
            looks,
        )

    def _moved(self, level: int | Tensor, total: int, children: int) -> Iterator[tuple[Tensor, int]]:
        """Rows that move together, all at one level."""
        every = torch.arange(total, device=self.device)
        for part in self._chunks(total):
            index = every[part]
            if isinstance(level, int):
                yield index, level
                continue
            # ``level`` is that of the rows that are made
            here = level[part]
            yield from ((index[here.to(index.device) == k], k) for k in here.unique().tolist())

    def _uniforms(self, at: Place, chosen: Tensor) -> Callable[[int], Float64[Tensor, "rows count"]]:
        address = self._address(at, chosen.cpu())
        return lambda count: self.noise.uniform(Purpose.MOVE, address, count)

    @torch.no_grad()
    def log_transition(self, rows: Rows, level: int, at: Place, target: Rows) -> Float64[Tensor, " rows"]:
        """Log-probability of the moves from rows to their group's row in ``target``."""
        kernel = cast("TokenKernel", self.kernel)
        found = torch.zeros(len(rows), dtype=torch.float64)
        for part in self._chunks(len(rows)):
            here = cast("TokenEvaluation", self._evaluation(rows, level, part))
            to = target.x[at.group[part].to(rows.x.device)]
            if level == self.times.shape[0] - 2:
                found[part] = torch.where((to == here.x).all(dim=1), 0.0, -torch.inf).double().cpu()
            else:
                found[part] = kernel.log_prob(here, level, to).cpu()
        return found

    def _shown(self, samples: Tensor) -> Any:
        return self.process.model.decode(samples)

    def _decode(self, rows: Rows, level: int | Tensor, part: Any) -> Tensor:
        """Complete sequences of a part of the rows: as they stand, or with the likeliest tokens."""
        if isinstance(level, int) and level >= self.times.shape[0] - 2:
            x = rows.x[part]
            if not bool(self._masked.tokens.hides(x).any()):
                return x
        return self._evaluation(rows, level, part).denoised
