"""The worker that scores states before the last look by a forecast of their reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from itscale.engine.messages import Place, Scored
from itscale.engine.rows import Rows
from itscale.engine.worker import Worker
from itscale.models.conditions import joined, rows_of
from itscale.noise import Purpose
from itscale.process import Evaluation
from itscale.types import State
from itscale.values import Forecast, Sight, Unseen, certainty_equivalent


@dataclass
class ValuedWorker(Worker):
    """A worker that has a forecast."""

    forecast: Forecast | None = None

    @torch.no_grad()
    def score_ahead(self, rows: Rows, level: int | Tensor, at: Place, *, tilt: float) -> tuple[Rows, Scored]:
        """Score rows by the forecast; those at the last look, by the reward of the denoised sample.

        A score is the reward whose certain arrival is worth as much as what the forecast holds possible.
        """
        assert self.forecast is not None
        total = len(rows)
        reward, valid = torch.empty(2, total, dtype=torch.float64, device=rows.x.device)
        calls = torch.zeros(total, dtype=torch.int64)
        invalid, reasons = 0, []
        for k, index in self._groups_of_rows(level, total):
            ends = self._ends(rows, k, at, index)
            if ends.ndim == 1:  # the forecast needs no reward
                reward[index], valid[index] = ends.double(), ends.isfinite().double()
                continue
            scores, ok, made, why = self._judge(ends, k, at, index)
            reward[index] = certainty_equivalent(scores, ok, 0.0 if self.forecast.cost.is_mean else tilt)
            valid[index] = ok.any(dim=1).double()
            calls[index] = made
            invalid += int((~ok).sum())
            reasons.extend(why)
        finite = rows.x.flatten(1).isfinite().all(dim=1).double()
        found, known, alive = torch.stack([reward, valid, finite]).cpu()
        return rows, Scored(found, known.bool(), alive.bool(), calls, tuple(reasons[:8]), invalid)

    def _groups_of_rows(self, level: int | Tensor, total: int) -> Iterator[tuple[int, Tensor]]:
        """Yield a level and indices of rows there, as many as make one micro-batch of samples."""
        assert self.forecast is not None
        levels = [level] if isinstance(level, int) else level.unique().tolist()
        for k in levels:
            here = torch.arange(total) if isinstance(level, int) else (level == k).nonzero()[:, 0]
            samples = self.forecast.cost.calls if k < self.last_look else 1
            yield from ((k, part) for part in here.split(max(1, self.chunk // max(1, samples))))

    @property
    def last_look(self) -> int:
        """The level whose denoised samples are the output."""
        return self.times.shape[0] - 2

    def _ends(self, rows: Rows, level: int, at: Place, index: Tensor) -> Tensor:
        assert self.forecast is not None
        is_early = level < self.last_look and self.forecast.cost.before_look
        assert is_early or rows.raw is not None, "score needs a look first"
        x = rows.x[index.to(rows.x.device)]
        here = cast(Evaluation, Unseen(x, self.process) if is_early else self._evaluation(rows, level, index))
        if level == self.last_look:
            return here.denoised[:, None]
        group = at.group[index]

        def look(x: Tensor, where: int | float, of: Tensor | None = None, /) -> Evaluation:
            source = group if of is None else group[of]
            parts = [self._evaluate(x[p], where, source[p]) for p in self._chunks(len(x))]
            raw = torch.cat([p.raw for p in parts])
            return self.process.evaluation(x, parts[0].t, raw)

        def normals(count: int, common: bool) -> State:
            address = at.address[index]
            if common:
                zero = torch.zeros_like(address.move)
                address = replace(address, move=zero, slot=zero, draw=zero)
            address = self._address(Place(address, group), slice(None))
            return self.noise.normal(Purpose.VALUE, address, (count, *x.shape[1:]), x.dtype)

        def call(network: Callable[..., Tensor], x: State, of: Tensor | None) -> Tensor:
            return self._call(network, x, group if of is None else group[of])

        def uniforms(count: int) -> Tensor:
            return self.noise.uniform(Purpose.VALUE, self._address(at, index), count)

        return self.forecast(Sight(here, level, look, normals, call, uniforms))

    def _call(self, network: Callable[..., Tensor], x: State, group: Tensor) -> Tensor:
        """Run another network than the model's; padded where bits count, as the model is."""
        assert self.forecast is not None
        is_look = self.forecast.cost.looks > 0
        condition = None if self.encoded is None else rows_of(self.encoded, group)
        done = []
        for part in self._chunks(len(x)):
            rows, given = x[part], None if condition is None else rows_of(condition, part)
            missing = self.chunk - len(rows) if self.bitwise else 0
            self.network_calls += is_look
            if missing:
                self.padding_rows += is_look * missing * self.process.model.rows_per_look
                fill = torch.zeros(missing, dtype=torch.int64, device=x.device)
                rows = torch.cat([rows, rows[fill]])
                given = None if given is None else joined([given, rows_of(given, fill)])
            done.append(network(rows, given)[: len(x[part])])
        return torch.cat(done)

    def _judge(
        self, ends: State, level: int, at: Place, index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """Scores (rows, samples), whether each is one, calls made per row, and why some are none."""
        assert self.reward is not None
        shape = ends.shape[:2]
        flat, source = ends.flatten(0, 1), index.repeat_interleave(shape[1])
        values, valid, calls, reasons = [], [], [], []
        for part in self._chunks(len(flat)):
            samples = self.decode(flat[part])
            where = source[part]
            done = self.reward.score(samples, self._facts(level, _some(at, where), slice(None)))
            values.append(done.values.double())
            valid.append(done.valid)
            calls.append(torch.arange(len(done.values)) < done.calls)
            reasons.extend(r for r in done.reasons or () if r)
        made = torch.cat(calls).long().reshape(shape).sum(dim=1)
        return torch.cat(values).reshape(shape), torch.cat(valid).reshape(shape), made, reasons


def _some(at: Place, index: Tensor) -> Place:
    """The places of some rows."""
    return Place(at.address[index], at.group[index])
