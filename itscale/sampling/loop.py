"""Step a method to its end, recording every level, keeping what is done if it is interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from itscale.engine import Engine, Particles, Step
from itscale.methods import Method, Plan
from itscale.particles import effective_sample_size, log_mean_exp
from itscale.sampling.checkpoint import Checkpoint


class Outcome(NamedTuple):
    """The end of a run.

    Attributes:
        truncated: time or a callback ended it before its last level.
    """

    particles: Particles
    trace: list[dict[str, Any]]
    truncated: bool


def run(
    engine: Engine,
    method: Method,
    plan: Plan,
    on_step: Callable[[Step], Any] | None,
    checkpoint: Checkpoint | None,
    saved: dict[str, Any] | None,
    prelude: dict[str, Any],
) -> Outcome:
    """Start, or go on from what was saved, and step to the end.

    An exception, Ctrl-C included, leaves the state after the last whole step in the checkpoint.
    """
    if saved is None or checkpoint is None:
        state = method.init(engine, plan)
        trace = [_record(engine, state.particles)]
    else:
        state, trace = checkpoint.restore(saved, engine, engine.pool.device)
    done = engine.snapshot() if checkpoint is not None else None
    try:
        while not state.is_done:
            if engine.ledger.out_of_time:
                return _ended(engine, state.particles, trace)
            state_after = method.step(engine, state)
            trace = [*trace, _record(engine, state_after.particles)]
            state = state_after
            if checkpoint is not None:
                done = engine.snapshot()
                if checkpoint.is_due:
                    checkpoint.save(done, state, trace, prelude)
            if on_step is not None and on_step(_step(engine, state.particles, trace[-1])) is False:
                return _ended(engine, state.particles, trace)
    except BaseException:
        if checkpoint is not None and done is not None:
            checkpoint.save(done, state, trace, prelude)
        raise
    return Outcome(state.particles, trace, False)


def _ended(engine: Engine, p: Particles, trace: list[dict[str, Any]]) -> Outcome:
    """End a run where it is."""
    is_whole = bool((p.level == engine.steps).all())
    if not is_whole:
        p = engine.jump(p)
        p = engine.score(p) if engine.has_reward else p
        trace = [*trace, _record(engine, p)]
    return Outcome(p, trace, not is_whole)


def _record(engine: Engine, p: Particles) -> dict[str, Any]:
    rewards = p.reward[p.reward.isfinite()]
    eves = p.eve.sort(dim=1).values
    level = int(p.level.min())
    return {
        "level": level,
        "t": float(engine.times[level]),
        "particles": p.n,
        "ess": effective_sample_size(p.log_weights).tolist(),
        "log_evidence": (p.log_evidence + log_mean_exp(p.log_weights)).tolist(),
        "unique_eves": ((eves[:, 1:] != eves[:, :-1]).sum(dim=1) + 1).tolist(),
        "reward_mean": float(rewards.mean()) if len(rewards) else None,
        "reward_max": float(rewards.max()) if len(rewards) else None,
        "nfe": int(engine.ledger.per_group["nfe"].max()),
        "seconds": round(engine.ledger.seconds, 4),
    }


def _step(engine: Engine, p: Particles, row: dict[str, Any]) -> Step:
    best = row["reward_max"]
    ess = torch.tensor(row["ess"], dtype=torch.float64)
    best = math.nan if best is None else best
    # origins point into the population that moved; that one's point into the population of the step before
    ancestors = engine.ancestors[-1].gather(1, p.origin) if engine.ancestors else p.origin
    return Step(row["level"], engine.steps, row["t"], p, ess, row["nfe"], best, ancestors)
