"""What rows of compositions and superpositions need besides: memory of their paths, rates, exact weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.engine.messages import Place
from itscale.engine.rows import Rows
from itscale.engine.worker_base import WorkerBase, present, room_for
from itscale.errors import ConfigError
from itscale.noise import Purpose
from itscale.process import (
    ComposedEvaluation,
    ComposedProcess,
    Evaluation,
    ExpertsEvaluation,
    ExpertsProcess,
)
from itscale.solvers import LangevinMove, Move


@dataclass
class CompositionWorker(WorkerBase):
    """Verbs and steps of processes that are made of several experts."""

    def memo(self, rows: Rows) -> Float64[Tensor, "rows memo"]:
        """What rows remember of their paths, on the host."""
        return present(rows.memo).cpu()

    @torch.no_grad()
    def rates(self, rows: Rows, level: int | Tensor) -> Float64[Tensor, "rows 2"]:
        """What a composition adds to the log-weights of rows that were looked at, and their virial.

        The growth per unit of time, without the gauge where that is still to be fitted; or, with exact
        weights, the part of the last move that its end decides.
        """
        process = self.process
        assert isinstance(process, ComposedProcess)
        found = torch.empty(2, len(rows), dtype=torch.float64, device=rows.x.device)
        for part, k in self._parts(level, len(rows)):
            here = self._evaluation(rows, k, part)
            assert isinstance(here, ComposedEvaluation)
            found[1, part] = here.virial
            if process.is_fitted:
                found[0, part] = here.rate_without_gauge
            elif not process.is_exact:
                found[0, part] = here.rate()
            elif rows.origin is not None:
                assert isinstance(level, int), "exact weights need all rows at one level"
                found[0, part] = process.arrive(here, rows.origin[part], float(self.times[level - 1]))
            else:  # at the start, or moved within a level, which takes no weight
                found[0, part] = process.log_ratio_at_start(here.x) if k == 0 else 0.0
        return found.T.cpu()

    @torch.no_grad()
    def langevin_ratio(
        self, rows: Rows, moved: Rows, level: int, kernel: LangevinMove
    ) -> Float64[Tensor, " rows"]:
        """Log of the Metropolis ratio of Langevin moves within a level; both ends were looked at."""
        process = self.process
        assert isinstance(process, ComposedProcess)
        found = torch.empty(len(rows), dtype=torch.float64, device=rows.x.device)
        for part in self._chunks(len(rows)):
            here, there = (self._evaluation(r, level, part) for r in (rows, moved))
            ahead = process.log_prob(there.x, there.t) - process.log_prob(here.x, here.t)
            found[part] = ahead + kernel.log_reversal(here, there, level)
        return found.cpu()

    def gauged(self, rows: Rows, gauge: Float64[Tensor, " rows"]) -> Rows:
        """Give every row the gauge that was fitted for it."""
        return rows.with_(gauge=gauge.to(rows.x.device))

    def _look_with_divergences(self, rows: Rows, level: int | Tensor, at: Place) -> Rows:
        """Evaluate all experts, and note the divergences of their scores: one probe for all of them."""
        process, memo = self._following, present(rows.memo)
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
            raw = room_for(len(rows), here.raw, rows.x.dtype) if raw is None else raw
            raw[part] = here.raw.detach()
        return rows.with_(raw=raw, memo=noted)

    @property
    def _following(self) -> ExpertsProcess:
        """The process, where it follows log-densities of experts."""
        assert isinstance(self.process, ExpertsProcess)
        return self.process

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
