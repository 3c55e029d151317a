"""Step a method to its end, recording every level, keeping what is done if it is interrupted."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch

from itscale.engine import Engine, Particles, Step
from itscale.errors import PoolError
from itscale.methods import Method, Plan, State
from itscale.particles import health, normalise
from itscale.potentials import Difference
from itscale.sampling.balance import balance
from itscale.sampling.checkpoint import Checkpoint

OnInterrupt: TypeAlias = Literal["raise", "return"]


class Outcome(NamedTuple):
    """The end of a run.

    Attributes:
        truncated: time, a callback or Ctrl-C ended it before the method was done.
        is_kept: a checkpoint holds it, and it can go on.
        uncorrected: particles beside the others that were not weighted, where the method has some.
    """

    particles: Particles
    trace: list[dict[str, Any]]
    truncated: bool
    is_kept: bool = False
    uncorrected: Particles | None = None


def run(
    engine: Engine,
    method: Method,
    plan: Plan,
    on_step: Callable[[Step], Any] | None,
    checkpoint: Checkpoint | None,
    saved: dict[str, Any] | None,
    prelude: dict[str, Any],
    on_interrupt: OnInterrupt = "raise",
) -> Outcome:
    """Start, or go on from what was saved, and step to the end.

    An exception, Ctrl-C included, leaves the state after the last whole step in the checkpoint. With
    ``on_interrupt="return"`` Ctrl-C then ends the run there, as a callback's False does.
    """
    if saved is None or checkpoint is None:
        state = method.init(engine, plan)
        trace = [_record(engine, state.particles)]
    else:
        state, trace = checkpoint.restore(saved, engine)
    done = engine.snapshot() if checkpoint is not None else None
    moves = len(engine.ancestors)
    try:
        while not state.is_done:
            if engine.ledger.out_of_time:
                return _ended(engine, method, state, trace)
            state_after = method.step(engine, state)
            trace = [*trace, _record(engine, state_after.particles)]
            state = state_after
            moves = len(engine.ancestors)
            if checkpoint is not None:
                done = engine.snapshot()
                if checkpoint.is_due:
                    checkpoint.save(done, state, trace, prelude)
            if on_step is not None and on_step(_step(engine, state.particles, trace[-1])) is False:
                return _ended(engine, method, state, trace)
    except BaseException as stop:
        if checkpoint is not None and done is not None:
            with contextlib.suppress(PoolError):  # rows that are lost leave the checkpoint before this one
                checkpoint.save(done, state, trace, prelude)
        if on_interrupt == "raise" or not isinstance(stop, KeyboardInterrupt):
            raise
        del engine.ancestors[moves:]  # a step that was broken off moved nobody, though it was paid
        return _ended(engine, method, state, trace)._replace(is_kept=checkpoint is not None)
    return _done(state, trace)


def _done(state: State, trace: list[dict[str, Any]]) -> Outcome:
    return Outcome(state.particles, trace, False, uncorrected=getattr(state, "uncorrected", None))


def _ended(engine: Engine, method: Method, state: State, trace: list[dict[str, Any]]) -> Outcome:
    """End a run where it is."""
    if state.is_done:
        return _done(state, trace)
    aside = getattr(state, "uncorrected", None)
    p = state.ended(engine)
    if method.claim.target == "tilted":  # what the weights lack for exp(tilt r) of these samples
        p = engine.weight(p, Difference())
    aside = None if aside is None else engine.jump(aside)
    return Outcome(p, [*trace, _record(engine, p)], True, uncorrected=aside)


def _record(engine: Engine, p: Particles) -> dict[str, Any]:
    rewards = p.reward.numpy()
    rewards = rewards[np.isfinite(rewards)]
    eves = np.sort(p.eve.numpy(), axis=1)
    level = int(p.level.numpy().min())
    now = health(p.log_weights)
    densities = engine.log_densities(p)
    followed = {}
    if densities is not None:
        mean = (normalise(p.log_weights)[..., None] * densities).sum(dim=1)  # over particles
        followed = {"log_densities": mean.tolist()}
    facts = engine.pool.since_last()
    return {
        "level": level,
        "t": float(engine.times[level]),
        "particles": p.n,
        "ess": now.ess.tolist(),
        "largest_weight": now.largest.tolist(),
        "log_evidence": (p.log_evidence + now.log_mean).tolist(),
        "unique_eves": ((eves[:, 1:] != eves[:, :-1]).sum(axis=1) + 1).tolist(),
        "reward_mean": float(rewards.mean()) if len(rewards) else None,
        "reward_max": float(rewards.max()) if len(rewards) else None,
        "nfe": int(engine.ledger.per_group["nfe"].max()),
        "seconds": round(engine.ledger.seconds, 4),
        **followed,
        **({"pool": facts} if facts else {}),
        **balance(p, math.prod(engine.event_shape)),
    }


def _step(engine: Engine, p: Particles, row: dict[str, Any]) -> Step:
    best = row["reward_max"]
    ess = torch.tensor(row["ess"], dtype=torch.float64)
    best = math.nan if best is None else best
    # origins point into the population that moved; that one's point into the population of the step before
    ancestors = engine.ancestors[-1].gather(1, p.origin) if engine.ancestors else p.origin
    pool = row.get("pool", {})
    return Step(row["level"], engine.steps, row["t"], p, ess, row["nfe"], best, ancestors, pool)
