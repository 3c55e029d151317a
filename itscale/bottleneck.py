"""Bottleneck sampling: the middle of a trajectory at a lower resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from itscale.errors import ConfigError
from itscale.grids.kappa import karras_spacing
from itscale.interpolants import EDM
from itscale.models.base import Model
from itscale.models.conditions import repeated
from itscale.noise import Address, Noise, Purpose
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import Kernel, Solver, get_solver
from itscale.solvers.march import march
from itscale.types import State


@dataclass(frozen=True)
class ResolutionChange:
    """Where the next model takes over, at another resolution.

    The denoised sample at ``kappa`` is resized and noised afresh, ``y = D + kappa' z``, to
    ``kappa' = exp(log_shift) kappa``. The posterior's spread at ``kappa`` is lost and never comes back, so
    this does not keep the marginals: it is no part of a run that weights samples.

    Attributes:
        kappa: noise-to-signal ratio at which it happens.
        log_shift: None is the logarithm of new side over old: a larger image shows as much at more noise.
    """

    kappa: float
    log_shift: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.kappa < math.inf:
            raise ConfigError(f"kappa of a resolution change must be positive and finite, got {self.kappa!r}")
        if self.log_shift is not None and not math.isfinite(self.log_shift):
            raise ConfigError(f"log_shift must be finite or None, got {self.log_shift!r}")

    def next_kappa(self, old: tuple[int, ...], new: tuple[int, ...]) -> float:
        """The ratio to go on from, between states of these event shapes."""
        if self.log_shift is not None:
            return math.exp(self.log_shift) * self.kappa
        return self.kappa * (math.prod(new[1:]) / math.prod(old[1:])) ** (1 / len(new[1:]))


class Stages(NamedTuple):
    """Samples (n, *event), and evaluations a sample made of each model."""

    samples: Tensor
    nfe: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """High, low, high: the first and the last levels at full resolution, those between at a lower one.

    Every stage runs a model on a Karras grid of its own, without memory of the one before, and ends by the
    jump to the denoised sample of its last level, which the next one resizes. Take one network at two sizes,
    ``models.wrap(..., event_shape=...)`` each, or two networks. A heuristic that saves time, whose law is not
    the model's even where the models are exact.

    Attributes:
        changes: in the order in which they happen, one fewer than models.
        steps: levels of every stage, the first where it begins, the last where it ends.
        solver: of the ODE, without noise of its own.
        resize: how to enlarge; to shrink is to average over areas.
        kappa_max, kappa_min: ends of the whole; the models must cover them.
        rho: of the grids.
        microbatch: rows at once.

    Reference:
        Tian et al. (2025), "Training-free Diffusion Acceleration with Bottleneck Sampling", arXiv:2503.18940;
        from its abstract alone. Its lengths of stages, levels and shifts of grids were not at hand:
        ``changes`` and ``steps`` have no defaults, and the shift is that of flows for larger images.
    """

    changes: tuple[ResolutionChange, ...]
    steps: tuple[int, ...]
    solver: str | Solver = "dpm++2m"
    resize: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    kappa_max: float = 80.0
    kappa_min: float = 0.002
    rho: float = 7.0
    microbatch: int = 64

    def __post_init__(self) -> None:
        for name in ("changes", "steps"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.changes or not all(isinstance(c, ResolutionChange) for c in self.changes):
            raise ConfigError(f"changes must be one or more ResolutionChange(...), got {self.changes!r}")
        for value in self.steps:
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise ConfigError(f"steps of a stage must be a whole number >= 2, got {value!r}")
        if isinstance(self.microbatch, bool) or not isinstance(self.microbatch, int) or self.microbatch < 1:
            raise ConfigError(f"microbatch must be a whole number >= 1, got {self.microbatch!r}")
        if len(self.steps) != len(self.changes) + 1:
            raise ConfigError(
                f"{len(self.changes)} changes make {len(self.changes) + 1} stages, and steps has "
                f"{len(self.steps)}: give one number per stage"
            )
        if self.resize not in ("nearest", "bilinear", "bicubic"):
            raise ConfigError(f"resize must be 'nearest', 'bilinear' or 'bicubic', got {self.resize!r}")
        if not 0 < self.kappa_min < self.kappa_max < math.inf or not self.rho > 0:
            raise ConfigError(
                "bottleneck sampling needs 0 < kappa_min < kappa_max and a positive rho, got "
                f"{self.kappa_min!r}, {self.kappa_max!r} and {self.rho!r}"
            )
        solver = get_solver(self.solver)
        if solver.is_stochastic or getattr(solver, "brings_noise", False):
            raise ConfigError(
                f"bottleneck sampling needs a solver of the ODE, got {type(solver).__name__}; "
                "use 'dpm++2m' or 'heun'"
            )

    def ranges(self, models: Sequence[Model]) -> list[tuple[float, float]]:
        """Noise-to-signal ratios (from, to) of every stage.

        Raises:
            ConfigError: unless there is a model per stage, all hold the same channels in as many dimensions,
                and every stage goes down.
        """
        if len(models) != len(self.steps):
            raise ConfigError(f"{len(self.steps)} stages need as many models, got {len(models)}")
        shapes = [tuple(model.event_shape) for model in models]
        if len(shapes[0]) < 2 or any(len(s) != len(shapes[0]) or s[0] != shapes[0][0] for s in shapes):
            raise ConfigError(
                "states must be (channels, *sides) with as many channels and sides in all stages, "
                f"got {shapes}"
            )
        found, top = [], self.kappa_max
        for change, old, new in zip(self.changes, shapes, shapes[1:], strict=False):
            found.append((top, change.kappa))
            top = change.next_kappa(old, new)
        found.append((top, self.kappa_min))
        for i, (high, low) in enumerate(found):
            if not low < high <= self.kappa_max * (1 + 1e-9):
                raise ConfigError(
                    f"stage {i} would run from kappa {high:.4g} to {low:.4g}: it must go down, from at most "
                    f"kappa_max = {self.kappa_max:g}; move the changes, or set their log_shift"
                )
        return found

    @torch.no_grad()
    def __call__(
        self,
        models: Sequence[Model],
        *,
        n: int,
        seed: int = 0,
        condition: Any = None,
        dtype: Any = torch.float32,
    ) -> Stages:
        """Draw ``n`` samples by one model per stage, all given the same condition.

        The noise of a sample depends on the seed and on its number, not on the others.
        """
        ranges, noise = self.ranges(models), Noise(seed)
        plan = zip(models, ranges, self.steps, strict=True)
        runs = [self._stage(model, high, low, steps) for model, (high, low), steps in plan]
        parts = []
        for start in range(0, n, self.microbatch):
            rows = torch.arange(start, min(start + self.microbatch, n))
            d = torch.zeros(len(rows), *models[0].event_shape, dtype=dtype)
            for stage, (run, (high, _)) in enumerate(zip(runs, ranges, strict=True)):
                zero = torch.zeros_like(rows)
                at = Address(zero, zero + stage, rows, zero)
                z = noise.normal(Purpose.INITIAL, at, run.event, dtype)
                d = run(_resized(d, run.event[1:], self.resize) + high * z, condition)
            parts.append(models[-1].decode(d))
        return Stages(torch.cat(parts), tuple(run.nfe for run in runs))

    def _stage(self, model: Model, high: float, low: float, steps: int) -> _Stage:
        path = EDM(sigma_max=self.kappa_max, sigma_min=self.kappa_min)
        process = ContinuousProcess.of(model, ODE(interpolant=path))
        if process.t_start > 0:
            covered = float(path.kappa(process.t_start))
            raise ConfigError(f"a model covers sigma/alpha up to {covered:.4g}; set kappa_max to it or below")
        u = torch.linspace(0, 1, steps, dtype=torch.float64)
        kappa = karras_spacing(u, high, low, self.rho).clamp(low, high)
        times = torch.cat([path.t_of_kappa(kappa), torch.ones(1, dtype=torch.float64)])
        return _Stage(process, times, get_solver(self.solver).build(process, times))


@dataclass(frozen=True)
class _Stage:
    """A solver of the ODE on a grid, down to the denoised sample at its last level."""

    process: ContinuousProcess
    times: Tensor
    kernel: Kernel

    @property
    def event(self) -> tuple[int, ...]:
        return tuple(self.process.model.event_shape)

    @property
    def nfe(self) -> int:
        levels = len(self.times) - 1
        return levels + sum(self.kernel.extra_looks(k) for k in range(levels))

    def __call__(self, x: State, condition: Any) -> State:
        encoded = self.process.model.encode([condition])
        given = None if encoded is None else repeated(encoded, len(x))
        return march(self.process, self.kernel, self.times, x, given)


def _resized(x: State, sides: tuple[int, ...], mode: str) -> State:
    """Average over areas to shrink, ``mode`` to enlarge."""
    if tuple(x.shape[2:]) == sides:
        return x
    if math.prod(sides) < math.prod(x.shape[2:]):
        return F.interpolate(x, sides, mode="area")
    return F.interpolate(x, sides, mode=mode)
