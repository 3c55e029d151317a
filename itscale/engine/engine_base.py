"""What the engine's verbs stand on: noise addresses, charges, what is remembered of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.budget import Ledger
from itscale.engine.messages import Place
from itscale.engine.particles import Particles
from itscale.engine.watch import Watch
from itscale.models.wrapper import is_uneven
from itscale.noise import Address, Noise, Purpose
from itscale.operators import Observed
from itscale.pools import OpenPool
from itscale.process import ContinuousProcess
from itscale.solvers import Kernel, is_silent
from itscale.values import DENOISED_COST, ScoreCost


class EngineBase:
    """What all verbs stand on: the pool, the noise, the ledger. See `Engine` for the attributes."""

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
        rows_at: Sequence[int] | None = None,
        tilt: float = 1.0,
        has_reward: bool = True,
        has_gradient: bool = False,
        initial: Tensor | None = None,
        process: ContinuousProcess | None = None,
        score_cost: ScoreCost = DENOISED_COST,
        observed: Observed | None = None,
    ) -> None:
        self.pool = pool
        self.kernel = kernel
        self.times = times
        self.group_ids = group_ids
        self.noise = noise
        self.ledger = ledger
        self.event_shape = event_shape
        self.rows_per_look = rows_per_look
        # nobody looks at the last level, but rows that are there may stand beside some that do
        self.rows_at = torch.tensor([*(rows_at or [rows_per_look] * (times.shape[0] - 1)), rows_per_look])
        self.tilt = tilt
        self.has_reward = has_reward
        self.has_gradient = has_gradient
        self.initial = initial
        self.process = process
        self.score_cost = score_cost
        self.observed = observed
        self.ancestors: list[Int64[Tensor, "g n"]] = []
        self.notes: dict[str, Any] = {}
        self.watch = Watch()
        self._last_place: tuple[tuple[int, int, int], Tensor, Place] | None = None

    @property
    def groups(self) -> int:
        return len(self.group_ids)

    @property
    def steps(self) -> int:
        return self.times.shape[0] - 1

    def scores_unseen(self, level: int) -> bool:
        """Whether states of a level can be scored before they are looked at."""
        return self.score_cost.before_look and level < self.steps - 1

    def is_noisy(self, level: int) -> bool:
        """Whether the move from this level separates copies."""
        return self.kernel.is_noisy(level)

    @property
    def looks_once(self) -> bool:
        """Whether a look asks the network about every row, as it does not of tokens that stayed the same."""
        return isinstance(self.process, ContinuousProcess)

    def is_silent(self, kernel: Kernel) -> bool:
        """Whether moves without a guide have nothing to tell the driver."""
        process = self.process
        if not isinstance(process, ContinuousProcess) or process.is_exact or is_uneven(process.model):
            return False
        return is_silent(kernel)

    def uniforms(self, p: Particles, purpose: Purpose, count: int) -> Float64[Tensor, "g count"]:
        """Uniforms of the groups' present move; a purpose may be used once a move."""
        zero = torch.zeros(p.groups, dtype=torch.int64)
        return self.noise.uniform(purpose, Address(self.group_ids, p.move, zero, zero), count)

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

    def _charge_looks(self, looks: Int64[Tensor, " g"], rows: Int64[Tensor, " g"] | None = None) -> None:
        """Charge looks, and the network rows that they took where these differ from look to look."""
        self.ledger.charge(nfe=looks, model_rows=looks * self.rows_per_look if rows is None else rows)

    def _rows(self, p: Particles) -> Int64[Tensor, " g"]:
        """Network rows of one look of each particle at its level."""
        return self._sums(p, self.rows_at)

    def _sums(self, p: Particles, table: Int64[Tensor, " levels"]) -> Int64[Tensor, " g"]:
        """What a number for every level comes to over the particles of each group."""
        if isinstance(p.one_level, int):
            return torch.full((p.groups,), p.n * int(table[p.one_level]))
        return table[p.level].sum(dim=1)

    def _charge_inside(self, kernel: Kernel, p: Particles, children: int, looks: Tensor | None) -> None:
        """Charge the looks inside moves; ``looks`` are those counted where they were made, if they were.

        Per row, or with a second column of network rows where these differ from look to look.
        """
        if looks is None:
            if isinstance(p.one_level, int) and not kernel.extra_looks(p.one_level):
                return
            made, rows = self._extra_looks(kernel, p) * children, None
        elif looks.ndim == 1:
            made, rows = looks.reshape(p.groups, -1).sum(dim=1), None
        else:
            made, rows = looks.reshape(p.groups, -1, 2).sum(dim=1).unbind(1)
        if made.any():
            self._charge_looks(made, rows)

    def _extra_looks(self, kernel: Kernel, p: Particles) -> Int64[Tensor, " g"]:
        return self._sums(p, torch.tensor([kernel.extra_looks(k) for k in range(self.steps)]))

    def _place(self, p: Particles, children: int = 1) -> Place:
        g, n = p.level.shape
        last = self._last_place
        if last is None or last[0] != (g, n, children):
            local = torch.arange(g).repeat_interleave(n * children)
            slot = torch.arange(n).repeat_interleave(children).repeat(g)
            draw = torch.arange(children).repeat(g * n)
            place = Place(Address(self.group_ids[local], local, slot, draw), local)
        elif last[1] is p.move:  # looked at and scored where it has moved to
            return last[2]
        else:
            place = last[2]
        move = torch.from_numpy(np.repeat(p.move.numpy(), n * children))
        place = Place(replace(place.address, move=move), place.group)
        self._last_place = ((g, n, children), p.move, place)
        return place
