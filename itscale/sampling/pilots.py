"""Short unguided runs before the real one: the scale of a tilt, and the profile of a reward.

They get ``draw``, which samples the model of the run on its process and grid, and are accounted apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.budget import Budget, Spent
from itscale.engine import Engine, Step
from itscale.errors import ConfigError
from itscale.methods import Claim, Cost, Needs, Plan, Profile, State, Unguided
from itscale.methods.base import advance, plan_particles
from itscale.result import Result

PILOT_PARTICLES = 16
PILOT_SPREAD = 2.0  # tilt="auto" aims at tilt * sd(r) of this size
PILOT_SEED = 0x70696C6F74
PROFILE_GROUPS, PROFILE_TRAJECTORIES = 8, 32

Draw = Callable[..., Result]


def scaled_tilt(draw: Draw) -> tuple[float, Spent]:
    """Scale the tilt by the spread of the reward over unguided samples."""
    drawn = draw(method=Unguided(particles=PILOT_PARTICLES))
    rewards = drawn.rewards
    spread = float(torch.where(rewards.isfinite(), rewards, torch.nan).std(dim=1).nanmean())
    if not spread > 0:
        raise ConfigError("tilt='auto': the reward does not vary over unguided samples; give a number")
    return PILOT_SPREAD / spread, drawn.spent


@dataclass(frozen=True)
class RecordedState(State):
    """Trajectories with what was seen at every look.

    Attributes:
        denoised: (g, n, *event) each.
        rewards: (g, n) each.
    """

    denoised: tuple[Tensor, ...] = ()
    rewards: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Unguided trajectories, scored at every level; how far each look was from the end is kept."""

    particles: int | None = 16
    scored: bool = True

    @property
    def needs(self) -> Needs:
        return Needs(noise=True, reward=False)

    @property
    def claim(self) -> Claim:
        return Claim("base")

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        def cost_of(n: int) -> Plan:
            scores = n * cost.steps if self.scored else 0
            return cost.plan(n, n * cost.trajectory(), scores, max(0, scores - n))

        return plan_particles(self.particles, 16, cost_of, budget, cost.rows_per_look)

    def init(self, engine: Engine, plan: Plan) -> RecordedState:
        return self._seen(engine, RecordedState(engine.look(engine.start(plan.particles))))

    def step(self, engine: Engine, state: RecordedState) -> RecordedState:
        p = advance(engine, state.particles)
        if int(p.level[0, 0]) < engine.steps:
            return self._seen(engine, replace(state, particles=p))
        last = state.denoised[-1].flatten(2)  # the last jump hands out the last denoised sample
        errors = torch.stack([(d.flatten(2) - last).square().mean(-1) for d in state.denoised], -1)
        carry = {"errors": errors.double()}
        if self.scored:
            carry["rewards"] = torch.stack(state.rewards, -1)
        return replace(state, particles=replace(p, carry=carry), is_done=True)

    def _seen(self, engine: Engine, state: RecordedState) -> RecordedState:
        p = engine.score(state.particles) if self.scored else state.particles
        reward = torch.where(p.valid, p.reward, torch.nan)
        return RecordedState(
            p, denoised=(*state.denoised, engine.denoised(p)), rewards=(*state.rewards, reward)
        )


@dataclass(frozen=True)
class Trajectories:
    """What recorded unguided trajectories showed.

    Attributes:
        times: of the looks.
        errors: |x_1 - D|^2 / d of every trajectory at every look.
        rewards: of the denoised samples at every look, NaN where there is no valid one; empty if unscored.
        held_out: what the held-out reward makes of the final samples; None without one.
        spent: what they cost.
    """

    times: Float64[Tensor, " steps"]
    errors: Float64[Tensor, "g n steps"]
    rewards: Float64[Tensor, "g n steps"]
    held_out: Float64[Tensor, "g n"] | None
    spent: Spent

    def profile(self) -> Profile:
        """Summarise them, with the reward's part if they were scored."""
        profile = Profile.of_model(self.times, self.errors, nfe=self.spent.total("nfe"))
        return profile.with_reward(self.rewards) if self.rewards.numel() else profile


def recorded(
    draw: Draw, groups: list[int], conditions: list[Any], particles: int, *, scored: bool = True
) -> Trajectories:
    """Record unguided trajectories, group after group: one group's states are held at a time."""
    errors, rewards, held_out, spent, times = [], [], [], Spent.nothing(), torch.zeros(0)
    for group, condition in zip(groups, conditions, strict=True):
        seen: list[Step] = []
        drawn = draw(
            method=Recorder(particles=particles, scored=scored),
            condition=condition,
            groups=[group],
            on_step=seen.append,
        )
        carry = seen[-1].particles.carry
        errors.append(carry["errors"])
        rewards.append(carry["rewards"] if scored else torch.zeros(0))
        held_out.append(drawn.held_out)
        spent, times = spent + drawn.spent, drawn.times[:-1]
    judged = None if held_out[0] is None else torch.cat(held_out)
    return Trajectories(times, torch.cat(errors), torch.cat(rewards), judged, spent)


def default_profile(draw: Draw, groups: list[int], conditions: list[Any]) -> tuple[Profile, Spent]:
    """The profile of a method that brings none: 32 trajectories of at most eight of the run's groups."""
    some = groups[:PROFILE_GROUPS]
    particles = _trajectories(len(some))
    seen = recorded(draw, some, conditions[:PROFILE_GROUPS], particles)
    source = f"a pilot of this run: {particles} trajectories of {len(some)} groups"
    return replace(seen.profile(), source=source), seen.spent


def profile_looks(groups: int, cost: Cost) -> int:
    """NFE of ``default_profile`` for a run of that many groups, over all of them."""
    some = min(groups, PROFILE_GROUPS)
    each = cost.trajectory() + (cost.steps - 1) * cost.score.looks
    return some * _trajectories(some) * each


def _trajectories(groups: int) -> int:
    return -(-PROFILE_TRAJECTORIES // groups)
