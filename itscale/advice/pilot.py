"""The pilot: unguided trajectories on the run's own grid, scored at every level, with the time they took."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.budget import Spent
from itscale.errors import ConfigError
from itscale.methods import Profile
from itscale.models.base import Model
from itscale.sampling import sample
from itscale.sampling.pilots import PILOT_SEED, recorded
from itscale.scoring import Reward, Scores

BLOCKS = 16  # parts that are left out in turn for a standard error
CONDITIONS = 16  # at most that many of a list of conditions are tried


@dataclass(frozen=True, eq=False)
class Pilot:
    """What unguided trajectories showed of a reward.

    Attributes:
        profile: their summary.
        rewards: of the denoised samples at every level, the last one of the final sample; valid ones only.
        condition: which condition a trajectory belongs to, 0, 1, ...
        spent: what they cost.
        invalid: trajectories that were left out, for want of a valid score at some level.
        seconds_per_row: of a network row, with the move and the decoding that go with it.
        seconds_per_call: of scoring a sample.
        held_out: correlation of the held-out reward with the reward within conditions; None without one.
    """

    profile: Profile
    rewards: Float64[Tensor, "m steps"]
    condition: Int64[Tensor, " m"]
    spent: Spent
    invalid: int = 0
    seconds_per_row: float = math.nan
    seconds_per_call: float = math.nan
    held_out: float | None = None

    @cached_property
    def deviations(self) -> Float64[Tensor, "m steps"]:
        """Rewards minus their mean in the condition."""
        return _within(self.rewards, self.condition)

    @cached_property
    def covariance(self) -> Float64[Tensor, "steps steps"]:
        """Covariance of rewards between levels, within conditions."""
        d, free = self.deviations, len(self.rewards) - len(self.condition.unique())
        return d.T @ d / free

    @property
    def mean(self) -> float:
        """Mean final reward."""
        return float(self.rewards[:, -1].mean())

    @property
    def rows_per_call(self) -> float:
        """Cost of a reward call in network rows."""
        return self.seconds_per_call / self.seconds_per_row if self.seconds_per_row > 0 else math.inf

    def correlation(self, level: int) -> float:
        """Squared correlation of the reward at a level with the final one."""
        c = self.covariance
        square = float(c[level, level] * c[-1, -1])
        return float(c[level, -1]) ** 2 / square if square > 0 and c[level, -1] > 0 else 0.0

    def standard_error(self, figure: Callable[[Pilot], float]) -> float:
        """Standard error of a figure by the jackknife over ``BLOCKS`` parts of the trajectories."""
        part = torch.arange(len(self.rewards)) % BLOCKS
        values = torch.tensor([figure(self._kept(part != b)) for b in range(BLOCKS)], dtype=torch.float64)
        return math.sqrt((BLOCKS - 1) / BLOCKS * float((values - values.mean()).square().sum()))

    def _kept(self, rows: Tensor) -> Pilot:
        return replace(self, rewards=self.rewards[rows], condition=self.condition[rows])


def run_pilot(
    model: Model,
    reward: Reward,
    conditions: list[Any],
    trajectories: int,
    *,
    held_out: Reward | None = None,
    seed: int = 0,
    **settings: Any,
) -> Pilot:
    """Draw unguided trajectories, as many of each condition, and score every denoised sample.

    Cost: ``trajectories`` times steps NFE and reward calls, and as many held-out calls as trajectories.

    Args:
        trajectories: in all; rounded up to as many of each condition.
        settings: of the run: steps, process, solver, grid, guidance, pool.

    Raises:
        ConfigError: if the reward does not vary, or hardly a trajectory has valid scores.
    """
    timed = Timed(reward)
    draw = functools.partial(
        sample,
        model,
        reward=Reward(timed.spec, leaf=timed),
        held_out=held_out,
        seed=seed ^ PILOT_SEED,
        **settings,
    )
    conditions = _spread(conditions)
    each = -(-trajectories // len(conditions))
    seen = recorded(draw, list(range(len(conditions))), conditions, each)
    flat = seen.rewards.flatten(0, 1)
    condition = torch.arange(len(conditions)).repeat_interleave(each)
    valid = flat.isfinite().all(1)
    if int(valid.sum()) < 2 * BLOCKS:
        raise ConfigError(
            f"only {int(valid.sum())} of {len(flat)} pilot trajectories had finite scores at all levels, and "
            f"{2 * BLOCKS} are needed; check the reward (itscale check-reward), or raise trajectories"
        )
    judged = None
    if seen.held_out is not None:
        judged = _correlated(flat[valid, -1], seen.held_out.flatten()[valid], condition[valid])
    profile = replace(seen.profile(), reward=reward.name, model=type(model).__name__)
    rows, calls = seen.spent.total("model_rows"), seen.spent.total("reward_calls")
    return Pilot(
        profile,
        flat[valid].double(),
        condition[valid],
        seen.spent,
        int((~valid).sum()),
        max(seen.spent.seconds - timed.seconds, 0.0) / rows,
        timed.seconds / max(calls, 1),
        judged,
    )


class Timed:
    """A reward as a leaf that adds up the seconds it takes.

    Attributes:
        seconds: so far.
    """

    def __init__(self, inner: Reward) -> None:
        self.inner = inner
        self.seconds = 0.0

    @property
    def spec(self) -> Any:
        return self.inner.spec

    @property
    def label(self) -> str:
        return self.inner.name

    @property
    def wanted(self) -> tuple[str, ...]:
        return self.inner.wanted

    def raw(self, samples: Any, facts: Mapping[str, Any]) -> Tensor:
        return self.inner.raw(samples, facts)

    def score(self, samples: Any, facts: Mapping[str, Any], batch_size: int | None) -> Scores:
        if isinstance(samples, Tensor) and samples.is_cuda:
            torch.cuda.synchronize(samples.device)  # what the network still does is not the reward's time
        started = perf_counter()
        scores = self.inner.score_prepared(samples, facts, batch_size)  # its values wait for the device
        self.seconds += perf_counter() - started
        return scores


def _spread(conditions: list[Any]) -> list[Any]:
    """At most ``CONDITIONS`` of them, evenly spread over the list."""
    count = min(len(conditions), CONDITIONS)
    return [conditions[i * len(conditions) // count] for i in range(count)]


def _within(values: Tensor, condition: Int64[Tensor, " m"]) -> Tensor:
    """Subtract the mean of every condition."""
    groups = int(condition.max()) + 1
    count = torch.bincount(condition, minlength=groups).clamp_min(1)
    shape = (groups, *values.shape[1:])
    total = torch.zeros(shape, dtype=values.dtype).index_add(0, condition, values)
    mean = total / count.reshape(-1, *(1,) * (values.ndim - 1))
    return values - mean[condition]


def _correlated(a: Tensor, b: Tensor, condition: Int64[Tensor, " m"]) -> float:
    """Correlation within conditions, of what has both."""
    both = b.isfinite()
    a, b = (_within(v[both].double(), condition[both]) for v in (a, b))
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else math.nan
