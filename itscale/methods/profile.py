"""What base trajectories teach about a model and a reward: how far early denoised samples can be trusted."""

from __future__ import annotations

import bisect
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError

UNRELATED = 0.001  # squared correlation below which an early reward says nothing
PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)  # of the quantiles that a profile keeps


@dataclass(frozen=True)
class Profile:
    """Figures of unguided trajectories on one grid, made by ``itscale.calibrate``.

    Attributes:
        times: (steps,) of the looks.
        spread: (steps,) posterior variance of the data per coordinate: mean |x_1 - D|^2 / d.
        slope: (steps,) regression of the final reward on the reward of the denoised sample, in [0, 1]; None
            for a profile of the model alone.
        correlation: (steps,) squared correlation of the two, not falling, 1 at the end; None likewise.
        reward_std: standard deviation of the final reward within a condition.
        quantiles: (steps, 7) of the reward of the denoised sample at every level, over all trajectories, at
            ``PROBABILITIES``; None likewise.
        fitted: (steps,) exponents found by ``calibrate(fit="kl")``; None leaves them to slope and ramp.
        fitted_at: tilt times the reward's standard deviation that they were fitted at; None likewise.
        nfe: what it cost.
        model, reward, process: what it was made of; a run with another reward or process says so.
        source: where it came from, in words; empty for one that a user brings.
    """

    times: tuple[float, ...]
    spread: tuple[float, ...]
    slope: tuple[float, ...] | None = None
    correlation: tuple[float, ...] | None = None
    reward_std: float = math.nan
    quantiles: tuple[tuple[float, ...], ...] | None = None
    fitted: tuple[float, ...] | None = None
    fitted_at: float | None = None
    nfe: int = 0
    model: str = ""
    reward: str = ""
    process: str = ""
    source: str = ""

    @classmethod
    def of_model(
        cls, times: Float64[Tensor, " steps"], errors: Float64[Tensor, "g n steps"], **facts: Any
    ) -> Profile:
        """Summarise how vague denoised samples are.

        Args:
            times: of the looks.
            errors: |x_1 - D|^2 / d of every trajectory at every look.
            facts: other attributes.
        """
        spread = errors.mean((0, 1)).flip(0).cummax(0).values.flip(0)  # it cannot grow with time
        return cls(tuple(times.tolist()), tuple(spread.tolist()), **facts)

    def with_reward(self, rewards: Float64[Tensor, "g n points"], name: str = "") -> Profile:
        """Add how well early rewards predict the final ones.

        Args:
            rewards: of the denoised samples of every trajectory at every look.
            name: of the reward.
        """
        r = torch.where(rewards.isfinite().all(-1, keepdim=True), rewards, torch.nan)
        r = r - r.nanmean(1, keepdim=True)  # within a condition: levels of reward differ between them
        scale = (r[..., -1:] ** 2).nanmean(1, keepdim=True).sqrt()
        if not bool((scale > 0).any()):
            raise ConfigError(
                "the reward does not vary over unguided samples, so there is nothing to calibrate; use "
                "method='smc', or another reward"
            )
        r = torch.where(scale > 0, r / scale, torch.nan)
        cross = (r * r[..., -1:]).nansum((0, 1))
        square, total = (r**2).nansum((0, 1)), (r[..., -1] ** 2).nansum()
        correlation = (cross**2 / (square * total).clamp_min(1e-300)).clamp(0, 1)
        correlation = torch.where(cross > 0, correlation, 0.0).cummax(0).values
        correlation[-1] = 1.0
        slope = torch.where(correlation < UNRELATED, 0.0, (cross / square.clamp_min(1e-300)).clamp(0, 1))
        at = torch.tensor(PROBABILITIES, dtype=rewards.dtype)
        seen = torch.where(rewards.isfinite(), rewards, torch.nan).flatten(0, 1)
        return replace(
            self,
            slope=tuple(slope.tolist()),
            correlation=tuple(correlation.tolist()),
            reward_std=float(scale[scale > 0].mean()),
            quantiles=tuple(tuple(row) for row in seen.nanquantile(at, dim=0).T.tolist()),
            reward=name,
        )

    def on(self, times: Float64[Tensor, " steps"]) -> Profile:
        """Interpolate to another grid of the same path, linearly in time."""
        if len(times) == len(self.times) and all(
            math.isclose(a, b, abs_tol=1e-9) for a, b in zip(times.tolist(), self.times, strict=True)
        ):
            return self

        def moved(values: Any) -> Any:
            if values is None:
                return None
            known, at = torch.tensor(self.times), torch.tensor(values)
            right = torch.searchsorted(known, times.to(known)).clamp(1, len(known) - 1)
            share = ((times.to(known) - known[right - 1]) / (known[right] - known[right - 1])).clamp(0, 1)
            share = share.reshape(-1, *(1,) * (at.ndim - 1))
            return _tuples((at[right - 1] + share * (at[right] - at[right - 1])).tolist())

        correlation = moved(self.correlation)
        if correlation is not None:
            correlation = (*correlation[:-1], 1.0)
        return replace(
            self,
            times=tuple(times.tolist()),
            spread=moved(self.spread),
            slope=moved(self.slope),
            correlation=correlation,
            quantiles=moved(self.quantiles),
            fitted=moved(self.fitted),
        )

    def exponents(self) -> tuple[float, ...]:
        """Half the slope and half a ramp: the slope alone is too sure in the tilted region, the ramp too shy.

        Without a reward's slope 1 stands in for it. Fitted exponents are taken as they are.
        """
        if self.fitted is not None:
            return (*self.fitted[:-1], 1.0)
        steps = len(self.times)
        slope = self.slope or (1.0,) * steps
        ramp = [k / max(1, steps - 1) for k in range(steps)]
        mixed = [(b + k) / 2 for b, k in zip(slope, ramp, strict=True)]
        return (*mixed[:-1], 1.0)

    def schedule(self, spread: float) -> tuple[float, ...]:
        """Relative numbers of particles: half everywhere alike, half where the reward is decided.

        Args:
            spread: tilt times the reward's standard deviation.
        """
        if self.correlation is None:
            raise ConfigError(
                "schedule='half' needs a profile of the reward: itscale.calibrate(model, reward)"
            )
        gains = [b - a for a, b in zip((0.0, *self.correlation[:-1]), self.correlation, strict=True)]
        z = [math.sqrt(math.expm1(min(spread**2 * gain, 6.0))) for gain in gains]
        mean = sum(z) / len(z) or 1.0
        z = [max(v / mean, 0.25) for v in z]
        mean = sum(z) / len(z)
        return tuple(0.5 + 0.5 * v / mean for v in z)

    def scaled(self, weight: float, shift: float = 0.0) -> Profile:
        """Return the profile of ``weight * reward + shift``: only its spread and its quantiles are others."""
        quantiles = self.quantiles
        if quantiles is not None:
            quantiles = tuple(tuple(sorted(weight * q + shift for q in row)) for row in quantiles)
        return replace(self, reward_std=abs(weight) * self.reward_std, quantiles=quantiles)

    def thresholds(self, quantile: float) -> tuple[float, ...]:
        """Rewards that this share of unguided trajectories stays below at every level, by interpolation.

        Args:
            quantile: between the first and the last of ``PROBABILITIES``.
        """
        if self.quantiles is None:
            raise ConfigError("thresholds need a profile with quantiles: itscale.calibrate(model, reward)")
        right = max(1, bisect.bisect_left(PROBABILITIES, quantile))
        low, high = PROBABILITIES[right - 1], PROBABILITIES[right]
        share = (quantile - low) / (high - low)
        return tuple(q[right - 1] + share * (q[right] - q[right - 1]) for q in self.quantiles)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Profile:
        """Make a profile of what JSON kept of one."""
        return cls(**{name: _tuples(value) for name, value in fields.items()})

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read a saved profile.

        Raises:
            ConfigError: if there is no such file, or it holds no profile.
        """
        try:
            return cls.of_fields(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"profile {str(path)!r} cannot be read: {error}") from error


def _tuples(value: Any) -> Any:
    """Lists, and lists in lists, as tuples."""
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
