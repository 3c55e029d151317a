"""The engine's verbs for populations that differ in size from group to group, all at one level."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from itscale.engine.engine import Engine
from itscale.engine.messages import Place, Scored
from itscale.engine.rows import Rows
from itscale.noise import Address


@dataclass(frozen=True)
class Ragged:
    """Rows at one level, any number of them in each group; what they cost is charged to their groups.

    Attributes:
        rows: their states.
        level: of all of them; -1 before they are drawn.
        group: (rows,), index of the group in this run.
        slot: (rows,), position in the group; addresses noise.
    """

    rows: Rows | None
    level: int
    group: Int64[Tensor, " rows"]
    slot: Int64[Tensor, " rows"]

    def __len__(self) -> int:
        return len(self.group)

    def move(self, engine: Engine, move: int) -> Ragged:
        """Draw the first states, or move on by one step, and look where that is.

        Cost: one NFE a row, and what the step takes inside.

        Args:
            move: addresses the noise; no other act of the group may use it.
        """
        at = self._place(engine, move)
        if self.rows is None:
            rows = engine.pool.later("start", at, None)
        elif engine.is_silent(engine.kernel):
            rows = engine.pool.later("propose", self.rows, self.level, at)
            self._charge(engine, engine.kernel.extra_looks(self.level))
        else:
            rows, _, inside = engine.pool.call("propose", self.rows, self.level, at)
            if inside is None or inside.ndim == 1:
                self._charge(engine, engine.kernel.extra_looks(self.level) if inside is None else inside)
            else:
                self._charge(engine, inside[:, 0], inside[:, 1])
        made = torch.ones_like(self.group)
        if engine.looks_once:
            rows = engine.pool.later("look", rows, self.level + 1, at, is_look=True)
        else:
            rows, made = engine.pool.call("look", rows, self.level + 1, at)
        self._charge(engine, made, made * engine.rows_at[self.level + 1])
        return replace(self, rows=rows, level=self.level + 1)

    def score(self, engine: Engine) -> tuple[Float64[Tensor, " rows"], Bool[Tensor, " rows"], Scored]:
        """Score the denoised samples: rewards, -inf where there is no valid one, and which are valid.

        Cost: one reward call a row that no cache answers.
        """
        _, scored = engine.pool.call(
            "score", self.rows, self.level, self._place(engine, 0), keep_samples=False
        )
        valid = scored.valid & scored.finite
        calls = self._per_group(engine, scored.calls)
        engine.ledger.charge(
            reward_calls=calls,
            decodes=self._per_group(engine, torch.ones_like(scored.calls)),
            cached_rewards=len(self) - int(calls.sum()),
            invalid_rewards=int((~scored.valid).sum()),
            dead_states=engine.watch.count_dead(scored.finite[:, None], self.level),
        )
        return torch.where(valid, scored.reward, -torch.inf), valid, scored

    def _charge(
        self,
        engine: Engine,
        each: int | Int64[Tensor, " rows"],
        network: Int64[Tensor, " rows"] | None = None,
    ) -> None:
        """Charge looks a row, and the network rows that they took if these differ from look to look."""
        looks = self._per_group(engine, torch.zeros_like(self.group) + each)
        rows = looks * engine.rows_per_look if network is None else self._per_group(engine, network)
        engine.ledger.charge(nfe=looks, model_rows=rows)

    def _per_group(self, engine: Engine, amount: Int64[Tensor, " rows"]) -> Int64[Tensor, " g"]:
        return torch.zeros(engine.groups, dtype=torch.int64).index_add_(0, self.group, amount)

    def _place(self, engine: Engine, move: int) -> Place:
        zero = torch.zeros_like(self.group)
        return Place(Address(engine.group_ids[self.group], zero + move, self.slot, zero), self.group)
