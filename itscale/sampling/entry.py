"""``sample``: put model, process, solver, method, reward and budget together and run them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from itscale.budget import Budget, Ledger, Spent
from itscale.engine import Engine, Particles, Step, Worker
from itscale.errors import ConfigError
from itscale.methods import Method, State, Unguided
from itscale.models.base import Model
from itscale.noise import Noise
from itscale.particles import effective_sample_size, log_mean_exp
from itscale.pools import Local, Pool
from itscale.preparation import describe, prepare
from itscale.process import ODE, SDE
from itscale.result import Result
from itscale.scoring import Reward, as_reward
from itscale.solvers import Solver

PILOT_PARTICLES = 16
PILOT_SPREAD = 2.0  # tilt="auto" aims at tilt * sd(r) of this size


def sample(
    model: Model,
    *,
    reward: Any = None,
    method: str | Method | None = None,
    n: int | None = None,
    particles: int | None = None,
    steps: int = 50,
    process: ODE | SDE | None = None,
    solver: str | Solver | None = None,
    grid: Any = "uniform",
    tilt: float | Literal["auto"] = 1.0,
    condition: Any = None,
    guidance: float = 1.0,
    held_out: Any = None,
    budget: Budget | None = None,
    groups: int | Sequence[int] = 1,
    seed: int = 0,
    pool: Pool | None = None,
    initial: Tensor | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Result:
    """Sample a model, steered towards a reward if there is one.

    Without a reward: independent samples of the ODE by DPM-Solver++(2M). With one: SMC on the SDE with the
    natural diffusion coefficient by the second-order SDE solver, for the law p(x) exp(tilt * r(x)).

    Args:
        model: a model: ``itscale.load("digits")``, ``models.wrap(...)``, ``models.GaussianMixture(...)``.
        reward: a function, a reward, a name, ``"module:function"``, a file path, or a weighted list of these.
        method: a method or its name.
        n, particles: particles per group (one number, two names); None is what the budget allows.
        steps: intervals of the time grid; the last one jumps to the denoised sample.
        process: ``ODE()`` or ``SDE(interpolant=, diffusion=)``.
        solver: a solver or its name; see ``itscale solvers``.
        grid: time grid or its name, in the time of the process's path.
        tilt: exponent on the reward, >= 0; ``"auto"`` scales it by the spread of 16 unguided samples.
        condition: one condition for all groups, or a list with one per group.
        guidance: classifier-free guidance weight; 1 is the plain conditional model.
        held_out: a reward that only looks at the final samples.
        budget: limits per group.
        groups: how many independent runs, or their absolute indices.
        seed: all randomness, together with the group index.
        pool: where to compute; ``pools.Local(microbatch=, bitwise=)``.
        initial: unit noise to start from, (groups, n, *event), in place of the seed's.
        on_step: called after every move with a ``Step``.

    Returns:
        A ``Result`` with tensors (groups, particles, ...).

    Raises:
        ConfigError: for settings that cannot work together, before any network call.
        BudgetError: if the budget cannot pay for the smallest run.
        RewardError: if the reward fails for every sample.
    """
    group_ids = _group_ids(groups)
    conditions = _conditions(condition, len(group_ids))
    setup = prepare(
        model,
        reward=reward,
        method=method,
        n=n if initial is None else _initial_size(initial, n, particles, method),
        particles=particles,
        steps=steps,
        process=process,
        solver=solver,
        grid=grid,
        guidance=guidance,
        budget=budget,
    )
    plan = setup.plan
    initial = _initial(initial, len(group_ids), plan.particles, setup.model.event_shape)
    scorer = None if reward is None else as_reward(reward)
    judge = None if held_out is None else as_reward(held_out)
    pilot = None
    if tilt == "auto":
        tilt, pilot = _pilot(model, scorer, conditions, group_ids, steps, seed, pool)
    if not (isinstance(tilt, int | float) and 0 <= tilt < math.inf):
        raise ConfigError(f"tilt must be finite and >= 0, or 'auto', got {tilt!r}; negate the reward instead")
    noise = Noise(seed)
    factory = functools.partial(
        Worker,
        setup.process,
        setup.kernel,
        setup.times,
        noise,
        scorer,
        judge,
        conditions,
        getattr(model, "dtype", torch.float32),
    )
    engine = Engine(
        (pool or Local()).open(factory),
        kernel=setup.kernel,
        times=setup.times,
        group_ids=group_ids,
        noise=noise,
        ledger=Ledger(len(group_ids), budget),
        event_shape=tuple(setup.model.event_shape),
        rows_per_look=setup.model.rows_per_look,
        tilt=float(tilt),
        has_reward=scorer is not None,
        initial=initial,
    )
    state, trace, truncated = _run(engine, setup.method, setup.method.init(engine, plan), on_step)
    config = {
        **setup.describe(),
        "tilt": float(tilt),
        "condition": conditions,
        "guidance": guidance,
        "reward": None if scorer is None else scorer.name,
        "held_out": None if judge is None else judge.name,
        "budget": describe(budget),
        "groups": group_ids.tolist(),
        "seed": seed,
        "pool": describe(pool or Local()),
    }
    modality = setup.model.modality
    return _result(
        engine, setup.method, state.particles, trace, truncated, modality=modality, pilot=pilot, config=config
    )


def _run(
    engine: Engine, method: Method, state: State, on_step: Callable[[Step], None] | None
) -> tuple[State, list[dict[str, Any]], bool]:
    trace = [_record(engine, state.particles)]
    while not state.is_done:
        if engine.ledger.out_of_time:
            p = engine.jump(state.particles)
            p = engine.score(p) if engine.has_reward else p
            return State(p, is_done=True), [*trace, _record(engine, p)], True
        state = method.step(engine, state)
        trace.append(_record(engine, state.particles))
        if on_step is not None:
            on_step(_step(engine, state.particles, trace[-1]))
    return state, trace, False


def _record(engine: Engine, p: Particles) -> dict[str, Any]:
    rewards = p.reward[p.reward.isfinite()]
    eves = p.eve.sort(dim=1).values
    return {
        "level": int(p.level[0, 0]),
        "t": float(engine.times[p.level[0, 0]]),
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
    return Step(row["level"], engine.steps, row["t"], p, ess, row["nfe"], best)


def _result(
    engine: Engine,
    method: Method,
    p: Particles,
    trace: list[dict[str, Any]],
    truncated: bool,
    *,
    modality: str,
    pilot: Spent | None,
    config: dict[str, Any],
) -> Result:
    final = engine.finish(p)
    has_evidence = method.claim.evidence is not None and not truncated
    evidence = p.log_evidence + log_mean_exp(p.log_weights)
    sizes = {a.shape for a in engine.ancestors}
    warnings = list(engine.warnings)
    target = None if truncated else method.claim.target
    if truncated:
        warnings.append("the time budget ended the run early: samples were denoised as they stood")
    if dead := [i for i, z in enumerate(evidence.tolist()) if z == -math.inf]:
        warnings.append(f"groups {dead} lost all their weight; their samples say nothing about the target")
    return Result(
        samples=final.samples,
        states=final.states,
        rewards=p.reward,
        held_out=final.held_out,
        log_weights=p.log_weights,
        log_evidence=evidence if has_evidence else torch.full_like(evidence, torch.nan),
        ess=torch.tensor([row["ess"] for row in trace], dtype=torch.float64),
        ancestors=torch.stack(engine.ancestors) if len(sizes) == 1 else None,
        times=engine.times,
        tilt=engine.tilt,
        claim={"target": target, "evidence": method.claim.evidence if has_evidence else None},
        spent=engine.ledger.spent(),
        modality=modality,
        truncated=truncated,
        pilot=pilot,
        trace=trace,
        config=config,
        warnings=warnings,
    )


def _pilot(
    model: Model,
    reward: Reward | None,
    conditions: list[Any],
    group_ids: Tensor,
    steps: int,
    seed: int,
    pool: Pool | None,
) -> tuple[float, Spent]:
    """Scale the tilt by the spread of the reward over unguided samples; its cost is accounted apart."""
    if reward is None:
        raise ConfigError("tilt='auto' needs a reward")
    drawn = sample(
        model,
        reward=reward,
        method=Unguided(particles=PILOT_PARTICLES),
        steps=steps,
        condition=conditions,
        groups=group_ids.tolist(),
        seed=seed ^ 0x70696C6F74,
        pool=pool,
    )
    rewards = drawn.rewards
    spread = float(torch.where(rewards.isfinite(), rewards, torch.nan).std(dim=1).nanmean())
    if not spread > 0:
        raise ConfigError("tilt='auto': the reward does not vary over unguided samples; give a number")
    return PILOT_SPREAD / spread, drawn.spent


def _initial_size(initial: Tensor, n: int | None, particles: int | None, method: Any) -> int | None:
    """Unless a number is given, there are as many particles as initial noises."""
    is_given = n is not None or particles is not None or getattr(method, "particles", None) is not None
    return n if is_given or initial.ndim < 2 else initial.shape[1]


def _group_ids(groups: int | Sequence[int]) -> Tensor:
    listed = range(groups) if isinstance(groups, int) else groups
    ids = list(listed) if isinstance(listed, Iterable) else []
    if not ids or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in ids):
        raise ConfigError(f"groups must be a count >= 1 or a list of indices >= 0, got {groups!r}")
    if len(set(ids)) != len(ids):
        raise ConfigError(f"groups holds an index twice: {groups!r}")
    return torch.tensor(ids, dtype=torch.int64)


def _conditions(condition: Any, groups: int) -> list[Any]:
    if not isinstance(condition, list | tuple):
        return [condition] * groups
    if len(condition) != groups:
        raise ConfigError(
            f"condition has {len(condition)} entries for {groups} groups; give one each, or a single one"
        )
    return list(condition)


def _initial(initial: Tensor | None, groups: int, n: int, event: Sequence[int]) -> Tensor | None:
    if initial is not None and tuple(initial.shape) != (groups, n, *event):
        raise ConfigError(
            f"initial must be unit noise of shape (groups, particles, *event) = {(groups, n, *event)}, "
            f"got {tuple(initial.shape)}"
        )
    return initial
