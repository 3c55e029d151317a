"""``sample``: put model, process, solver, method, reward and budget together and run them."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch

from itscale.budget import Budget, Ledger, Spent
from itscale.decoders import Decoder
from itscale.engine import Engine, Step, TokenWorker, ValuedWorker
from itscale.engine.snapshot import revive
from itscale.errors import ConfigError
from itscale.methods import Method, Profile
from itscale.models.base import Model
from itscale.models.composition import Composition
from itscale.models.guidance import GuidanceLike
from itscale.models.masked import MaskedModel
from itscale.noise import Noise
from itscale.pools import Local, Pool
from itscale.preparation import Setup, describe, prepare
from itscale.process import ODE, SDE, Masking, Start
from itscale.result import Result
from itscale.sampling.checkpoint import Checkpoint
from itscale.sampling.inputs import (
    check_initial,
    group_indices,
    initial_size,
    one_per_group,
    token_template,
)
from itscale.sampling.loop import OnInterrupt, run
from itscale.sampling.outcome import make_result, with_decoded
from itscale.sampling.pilots import PILOT_SEED, Draw, default_profile, scaled_tilt
from itscale.sampling.prompting import check_prompts
from itscale.sampling.shipped import mismatches, shipped_profile
from itscale.scoring import Reward, as_reward
from itscale.solvers import Solver
from itscale.values import Denoised, Value


def sample(
    model: Model | MaskedModel,
    *,
    reward: Any = None,
    method: str | Method | None = None,
    n: int | None = None,
    particles: int | None = None,
    steps: int | None = None,
    process: ODE | SDE | Masking | None = None,
    solver: str | Solver | Decoder | None = None,
    grid: Any = "native",
    value: str | Value = "denoised",
    tilt: float | Literal["auto"] = 1.0,
    condition: Any = None,
    guidance: GuidanceLike = 1.0,
    held_out: Any = None,
    budget: Budget | None = None,
    groups: int | Sequence[int] = 1,
    seed: int = 0,
    pool: Pool | None = None,
    initial: Any = None,
    start_at: Start | None = None,
    on_step: Callable[[Step], Any] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    on_interrupt: OnInterrupt = "raise",
) -> Result:
    """Sample a model, steered towards a reward if there is one.

    Without a reward: independent samples of the ODE by DPM-Solver++(2M). With one: SMC on the SDE with the
    natural diffusion coefficient by the second-order SDE solver, for the law p(x) exp(tilt * r(x)). A
    product of models is sampled by Feynman-Kac correctors on that SDE.

    Args:
        model: a model: ``itscale.load("digits")``, ``models.wrap(...)``, ``models.GaussianMixture(...)``.
        reward: a function, a reward, a name, ``"module:function"``, a file path, or a weighted list of these.
        method: a method or its name.
        n, particles: particles per group (one number, two names); None is what the budget allows.
        steps: intervals of the time grid, 50 by default; the last one jumps to the denoised sample. Of a
            masked model: looks at most, by default one per position to generate.
        process: ``ODE()`` or ``SDE(interpolant=, diffusion=)``; ``Masking(schedule=)`` for a masked model.
        solver: a solver or its name; see ``itscale solvers``. For a masked model one of ``decoders``.
            ``"scheduler"`` is that of a diffusers pipeline, with its process and its grid.
        grid: time grid or its name, in the time of the process's path; ``"native"`` is the model's own, or
            uniform.
        value: how states before the last look are scored: ``"denoised"``, or an object of
            ``itscale.values``. It changes what early scores cost and tell, not what they lead to.
        tilt: exponent on the reward, >= 0; ``"auto"`` scales it by the spread of 16 unguided samples.
        condition: one condition for all groups, or a list with one per group.
        guidance: classifier-free guidance weight; 1 is the plain conditional model. ``models.Guidance`` says
            more: rescaled, projected, or given at some noise levels alone.
        held_out: a reward that only looks at the final samples.
        budget: limits per group.
        groups: how many independent runs, or their absolute indices.
        seed: all randomness, together with the group index.
        pool: where to compute; ``pools.Local(microbatch=, bitwise=)``.
        initial: unit noise to start from, (groups, n, *event), in place of the seed's; for a masked model
            tokens that are given, (length,) or (groups, length), with the mask token where to generate, or
            the same as texts, such as ``"AC__GT"``.
        start_at: ``Start(states, t)`` starts at time t from noisy versions of states: image to image.
        on_step: called after every move with a ``Step``; False ends the run where it is.
        checkpoint: file that keeps the state of an unfinished run. It is written every
            ``checkpoint_every`` seconds and when the run is interrupted or fails; the same call goes on from
            it, to the same result. It is gone when the run is over.
        on_interrupt: what Ctrl-C does: ``"raise"``, or ``"return"`` what there is, flagged ``truncated``; a
            checkpoint then stays.

    Returns:
        A ``Result`` with tensors (groups, particles, ...).

    Raises:
        ConfigError: for settings that cannot work together, before any network call.
        BudgetError: if the budget cannot pay for the smallest run.
        RewardError: if the reward fails for every sample.
    """
    group_ids = group_indices(groups)
    conditions = one_per_group(condition, len(group_ids))
    if isinstance(model, Composition) and model.reward is not None:
        if reward is not None:
            raise ConfigError(
                "the composition is tilted by a reward already; give reward= or .tilted(), not both"
            )
        reward, tilt = model.reward, model.tilt
    scorer = None if reward is None else as_reward(reward)
    judge = None if held_out is None else as_reward(held_out)
    check_prompts(conditions, reward=scorer, held_out=judge)
    space = getattr(model, "tokens", None)
    model = cast(Model, model)
    template = None
    if space is not None and initial is not None:
        template, initial = token_template(model, initial, len(group_ids)), None
    setup = prepare(
        model,
        reward=scorer,
        held_out=judge,
        method=method,
        n=n if initial is None else initial_size(initial, n, particles, method),
        particles=particles,
        steps=steps,
        process=process,
        solver=solver,
        grid=grid,
        guidance=guidance,
        budget=budget,
        value=value,
        template=template,
        start_at=start_at,
    )
    plan = setup.plan
    origin = None if start_at is None else start_at.of_groups(len(group_ids), tuple(setup.model.event_shape))
    check_initial(initial, len(group_ids), plan.particles, setup.model.event_shape)
    if tilt != "auto" and not (isinstance(tilt, int | float) and 0 <= tilt < math.inf):
        raise ConfigError(f"tilt must be finite and >= 0, or 'auto', got {tilt!r}; negate the reward instead")
    if on_interrupt not in ("raise", "return"):
        raise ConfigError(f"on_interrupt must be 'raise' or 'return', got {on_interrupt!r}")
    request = {
        **setup.describe(),
        "groups": group_ids.tolist(),
        "tilt": tilt,
        "condition": describe(conditions),
        "guidance": describe(guidance),
        "reward": None if scorer is None else scorer.name,
        "held_out": None if judge is None else judge.name,
        "budget": describe(budget),
        "seed": seed,
        "pool": describe(pool or Local()),
        **({} if template is None else {"initial": template.tolist()}),
        **({} if start_at is None else {"start_at": repr(start_at)}),
    }
    keeper = None if checkpoint is None else Checkpoint(Path(checkpoint), request, checkpoint_every)
    saved = None if keeper is None else keeper.load()
    if saved is not None:
        prelude = revive(saved["prelude"], lambda rows: rows)
    else:
        draw = functools.partial(
            sample, model, reward=scorer, steps=steps, guidance=guidance, seed=seed ^ PILOT_SEED, pool=pool
        )
        if template is not None:
            draw = functools.partial(draw, initial=template)
        if start_at is not None:
            draw = functools.partial(draw, start_at=start_at)
        prelude = _prelude(draw, setup, tilt, scorer, group_ids.tolist(), conditions)
    chosen: Any = setup.method
    if prelude["profile"] is not None:
        chosen = replace(chosen, profile=prelude["profile"])
    noise = Noise(seed)
    factory = functools.partial(
        ValuedWorker if space is None else TokenWorker,
        setup.process,
        setup.kernel,
        setup.times,
        noise,
        scorer,
        judge,
        conditions,
        getattr(model, "dtype", torch.float32),
        forecast=setup.forecast,
        origin=origin,
    )
    with contextlib.closing((pool or Local()).open(factory)) as place:
        engine = Engine(
            place,
            kernel=setup.kernel,
            times=setup.times,
            group_ids=group_ids,
            noise=noise,
            ledger=Ledger(len(group_ids), budget),
            event_shape=tuple(setup.model.event_shape),
            rows_per_look=setup.model.rows_per_look,
            rows_at=setup.cost.rows_at,
            tilt=float(prelude["tilt"]),
            has_reward=scorer is not None,
            has_gradient=scorer is not None and scorer.gradient_ready and setup.forecast is None,
            initial=initial,
            process=setup.process,
            score_cost=setup.cost.score,
            observed=setup.observed,
        )
        if saved is None and isinstance(profile := getattr(chosen, "profile", None), Profile) and scorer:
            engine.watch.warnings += mismatches(profile, setup.process, scorer)
        done = run(engine, chosen, plan, on_step, keeper, saved, prelude, on_interrupt)
        result = make_result(
            engine,
            chosen,
            done.particles,
            done.trace,
            done.truncated,
            uncorrected=done.uncorrected,
            modality=setup.model.modality,
            pilot=prelude["pilot"],
            config={**request, "condition": conditions, "tilt": engine.tilt},
        )
    if keeper is not None and not done.is_kept:
        keeper.remove()
    return result if space is None else with_decoded(result, setup.model)


def _prelude(
    draw: Draw,
    setup: Setup,
    tilt: float | str,
    scorer: Reward | None,
    groups: list[int],
    conditions: list[Any],
) -> dict[str, Any]:
    """Run the pilots that the settings ask for.

    Returns:
        The tilt, the profile for the method (None if it wants none; shipped if there is one, else of a
        pilot), and what the pilots cost.
    """
    spent: Spent | None = None
    if tilt == "auto":
        if scorer is None:
            raise ConfigError("tilt='auto' needs a reward")
        tilt, spent = scaled_tilt(functools.partial(draw, condition=conditions, groups=groups))
    profile = None
    if setup.method.needs.profile:
        assert scorer is not None, "methods with a profile need a reward"
        is_plain = isinstance(setup.value, Denoised)  # which shipped profiles are of
        profile = shipped_profile(setup.process, scorer, conditions) if is_plain else None
        if profile is None:
            where = functools.partial(draw, process=setup.view, solver=setup.solver, grid=setup.grid)
            where = functools.partial(where, value=setup.value, tilt=tilt)
            profile, cost = default_profile(where, groups, conditions)
            spent = cost if spent is None else spent + cost
    return {"tilt": float(tilt), "profile": profile, "pilot": spent}
